"""Pins: a file from outside that crashes, fills the memory, or passes as an episode."""

import resource
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.records import Chunk
from rclpy.serialization import serialize_message

from inril_core.data import EpisodeIndex, EpisodeUnreadable, EpisodeWriter, finalise, read_episode
from inril_core.data.schemas import MessageSchema
from tests.data.synthetic import Synthetic, schemas

MADE = Synthetic(steps=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bytes of a raw and of a finished episode."""
    folder = tmp_path_factory.mktemp("files")
    raw = MADE.record(folder).read_bytes()
    (folder / "episodes").mkdir()
    finalise(folder / "episode-0.mcap", folder / "episodes", EpisodeIndex(folder / "episodes"))
    return raw, (folder / "episodes" / "episode-0.mcap").read_bytes()


def read(tmp_path, content):
    """Read bytes as a file."""
    path = tmp_path / "hostile.mcap"
    path.write_bytes(content)
    return read_episode(path)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), magic=st.booleans())
def test_garbage_is_refused(tmp_path_factory, content, magic):
    head = b"\x89MCAP0\r\n" if magic else b""
    with pytest.raises(EpisodeUnreadable):
        read(tmp_path_factory.mktemp("garbage"), head + content)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_refused_or_harmless(files, tmp_path_factory, data):
    """Whatever the damage, the reader says so or returns a sound episode; it raises nothing else."""
    content = bytearray(files[data.draw(st.integers(0, 1))])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert read(tmp_path_factory.mktemp("flip"), bytes(content)).steps <= MADE.steps
    except EpisodeUnreadable as error:
        assert str(error)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_finished_file_cut_short_is_refused(files, tmp_path_factory, data):
    cut = data.draw(st.integers(0, len(files[1]) - 9))
    with pytest.raises(EpisodeUnreadable):
        read(tmp_path_factory.mktemp("cut"), files[1][:cut])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EpisodeUnreadable, match=r"gone\.mcap: No such file"):
        read_episode(tmp_path / "gone.mcap")


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with pytest.raises(EpisodeUnreadable, match="at most 1000 are read"):
        read_episode(MADE.record(tmp_path), max_bytes=1000)


@pytest.mark.parametrize("stated", ["in the frame", "in the chunk"])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path, stated):
    packed = zstandard.ZstdCompressor(level=19).compress(bytes(80 << 20))
    size = 80 << 20 if stated == "in the chunk" else 10
    builder = RecordBuilder()
    Chunk("zstd", packed, 0, 0, 0, size).write(builder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EpisodeUnreadable, match="unpacks to"):
        read(tmp_path, b"\x89MCAP0\r\n" + builder.end())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10, "KiB"


def test_a_record_that_claims_an_immense_length_is_a_torn_tail(files, tmp_path):
    assert read(tmp_path, files[0] + struct.pack("<BQ", 5, 1 << 62)).steps == MADE.steps


def record(folder, change=lambda topic, message: message, types=None):
    """A raw file with changed messages or types."""
    path = folder / "episode-0.mcap"
    writer = EpisodeWriter(path, "episode-0", MADE.metadata(), types or schemas())
    for topic, message in MADE.messages():
        writer.write(topic, serialize_message(change(topic, message)), 0, 0)
    return path


@pytest.mark.parametrize(
    ("topic", "field", "value", "reason"),
    [
        ("/observation", "state", np.full(27, np.nan), r"observations\[1, 0\] = nan: must be finite"),
        ("/observation", "state", np.zeros(3), "Observation.state has"),
        ("/executed_action", "executed", np.full(6, np.inf), "actions"),
        ("/executed_action", "source", 9, "source = 9"),
        ("/policy_action", "raw", np.zeros(2), "PolicyAction.raw"),
        ("/observation", "link_age_s", np.full(3, np.inf), "link_age_s"),
    ],
)
def test_bad_values_are_named(tmp_path, topic, field, value, reason):
    def change(name, message):
        if name == topic and message.k == MADE.first_k + 1:
            setattr(message, field, value.tolist() if isinstance(value, np.ndarray) else value)
        return message

    with pytest.raises(EpisodeUnreadable, match=reason):
        read_episode(record(tmp_path, change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "uint8 x",
        "string episode_id\nstring step\nstring[] state",
        "inril_msgs/Observation again",
        "float64[99999999] state",
        "nonsense nonsense nonsense",
        "import os\nos.system('true')",
    ],
)
def test_another_definition_under_a_known_name_is_refused(tmp_path, text):
    name = "inril_msgs/msg/Observation"
    types = {**schemas(), name: MessageSchema(name, text)}
    with pytest.raises(EpisodeUnreadable):
        read_episode(record(tmp_path, types=types))


def test_another_type_on_a_topic_is_named(tmp_path):
    types = {**schemas(), "inril_msgs/msg/Observation": schemas()["inril_msgs/msg/Target"]}
    content = record(tmp_path, types=types).read_bytes()
    content = content.replace(b"inril_msgs/msg/Observation", b"inril_msgs/msg/Observatiom")
    with pytest.raises(EpisodeUnreadable, match=r"/observation: type 'inril_msgs/msg/Observatiom'"):
        read(tmp_path, content)


@pytest.mark.parametrize("key", ["purpose", "seed", "contract", "episode_id", "schema_version"])
def test_missing_identity_is_named(tmp_path, key):
    head = b"inril.episode"
    before, after = MADE.record(tmp_path).read_bytes().split(head)
    after = after.replace(key.encode(), key.upper().encode(), 1)
    with pytest.raises(EpisodeUnreadable, match=key):
        read(tmp_path, before + head + after)


@pytest.mark.parametrize("until", [None, 0])
def test_an_id_that_leaves_the_folder_is_refused(tmp_path, until):
    """Also where the file has no step that would have to be read."""
    made, evil = Synthetic(steps=2, episode_id="x" * 9), "../../etc"
    content = made.record(tmp_path, until).read_bytes().replace(b"x" * 9, evil.encode())
    (tmp_path / "evil.mcap").write_bytes(content)
    with pytest.raises(EpisodeUnreadable, match="episode_id"):
        read_episode(tmp_path / "evil.mcap")
    with pytest.raises(EpisodeUnreadable, match="episode_id"):
        finalise(tmp_path / "evil.mcap", tmp_path, EpisodeIndex(tmp_path))


@pytest.mark.parametrize("name", ["observations", "proposed", "raw", "log_prob", "qpos"])
@pytest.mark.parametrize("value", [3e38, -1e16, float("inf")])
def test_a_number_that_overflows_what_is_computed_from_it_refuses_the_episode_with_its_place(tmp_path, name, value):
    made = Synthetic()
    made.arrays[name][2, ...] = value
    if name == "qpos" and np.isfinite(value):
        made.arrays[name][2] = 1e300  # float64
    with pytest.raises(EpisodeUnreadable, match=rf"{name}\[2.*must be finite.*at most 1e\+15"):
        read_episode(made.record(tmp_path))
