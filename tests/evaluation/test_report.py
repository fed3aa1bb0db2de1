"""Pins: a report comes out of every run, cut short, damaged or hostile, and needs no other file."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from inril_core.evaluation import report, video
from inril_core.evaluation.report import summary, write_report
from inril_core.evaluation.shadow import GATE_LOG_NAME, Judged
from inril_core.files import append_line
from tests.evaluation.synthetic_run import RunBuilder, complete_run

KEYS = [
    *(
        "task",
        "demos",
        "bc_success",
        "finetuned_success",
        "eval_episodes",
        "control_steps",
        "wall_s",
        "late_ticks",
    ),
    *("weights_pushed", "weights_rejected", "push_to_acting_ms_p50", "report"),
]
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7*7 }}"


class Page(HTMLParser):
    """A parsed page: its tags with attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def has(self, words: str) -> bool:
        """The words stand in the text, however it is broken into lines."""
        return words in re.sub(r"\s+", " ", self.text)


@pytest.fixture
def no_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in for rendering, which has its own tests."""
    monkeypatch.setattr(report, "films", lambda episodes, captions: ["data:video/mp4;base64,AA=="] * 2)


def page_of(root: Path) -> Page:
    """Write and parse the report."""
    return Page(write_report(root).read_text())


def test_empty_run(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    for words in (
        "holds no episode",
        "no learning curve",
        "No metrics",
        "No version has reached",
        "No segment ran",
    ):
        assert page.has(words), words
    assert page.has("not measured")


@pytest.mark.usefixtures("no_films")
def test_complete_run(tmp_path: Path) -> None:
    root = complete_run(tmp_path / "demo", episodes=40)
    page = page_of(root)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == 9  # learning curve, 7 of the learner, control periods
    assert tags.count("video") == 2
    assert not page.has("Read this first")
    for words in (
        "the first start that failed before and succeeded after",
        "signature does not match the key",
        "robot_state",
        "605 steps of 11 episodes in real time",
        "episode_length: 100 steps",
        "2000000 to 2000149",
    ):
        assert page.has(words), words


@pytest.mark.usefixtures("no_films")
def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(complete_run(tmp_path / "demo", episodes=10))
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:80])
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


@pytest.mark.usefixtures("no_films")
def test_cut_short(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.segment(0, "eval:100:episodes", [True, False] * 15, range(30), [50] * 30)
    page = page_of(tmp_path)
    assert page.has("Segment eval:100:episodes was cut short: 30 of 100 episodes.")
    assert page.has("Films need an evaluation before and one after")
    run.segment(1, "train:9000:steps", [True] * 3, range(3), [50] * 3)
    assert page_of(tmp_path).has("150 of 9000 steps")


def test_missing_and_damaged_recordings_are_named(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for index in (0, 2):
        run.segment(index, "eval:2:episodes", [index > 0] * 2, range(2), [5] * 2)
    real_time = run.segment(3, "train:60:seconds", [True] * 2, range(2), [5] * 2)
    page = page_of(tmp_path)
    assert page.has("episode demo-0-eval-00000 is not in episodes/")
    assert page.has("recordings of the real-time segment cannot be read")
    path = run.record(real_time[0])
    run.record(real_time[1])
    path.write_bytes(path.read_bytes()[:400])
    page = page_of(tmp_path)
    assert page.has("1 recordings are missing") and page.has("5 steps of 1 episodes in real time")


@pytest.mark.usefixtures("no_films")
def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, run_id=HOSTILE)
    for index in (0, 2):
        for number in range(2):
            named = {"episode_id": f"../{index}{number}{HOSTILE}", "reason": HOSTILE, "source": HOSTILE}
            run.segment(index, "eval:2:episodes", [False], [number], [5], **named)
    run.segment(3, HOSTILE, [False], [0], [5], purpose="eval")  # no segment of any plan: left out
    run.offers(1, [HOSTILE])
    run.lines(run.paths.learner / "metrics.jsonl", [{"updates": 1, "rl_loss": HOSTILE, HOSTILE: 1.0}])
    (tmp_path / "demo.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    page = page_of(tmp_path)
    assert "script" not in {tag for tag, _ in page.tags} and "img" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(HOSTILE) >= 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": "9"},
        {"steps": -1},
        {"steps": True},
        {"success": "yes"},
        {"duration_s": float("nan")},
        {"ended_unix_s": float("inf")},
        {"ended_unix_s": 1e300},
        {"seed": 10**400},
        {"reason": ["x"]},
        {"late_ticks": None},
    ],
)
def test_lines_that_break_their_promise_are_left_out(tmp_path: Path, wrong: dict[str, Any]) -> None:
    run = RunBuilder(tmp_path)
    run.segment(0, "eval:1:episodes", [True], [0], [5])
    run.lines(run.paths.session, [{**json.loads(run.paths.session.read_text()), **wrong}])
    assert page_of(tmp_path).has("session.jsonl: 1 unreadable line(s) left out")
    assert summary(tmp_path)["control_steps"] == 5


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.segment(0, "eval:3:episodes", [True] * 3, range(3), [5] * 3)
    run.metrics(3)
    run.offers(2)
    for path in (run.paths.session, run.paths.learner / "metrics.jsonl", run.paths.weights / "log.jsonl"):
        whole = path.read_bytes()
        path.write_bytes(whole + b"[1, 2]\n\xff\xfe\n" + whole.splitlines()[-1][:-5])
    page = page_of(tmp_path)
    for name in ("session.jsonl", "metrics.jsonl", "log.jsonl"):
        assert page.has(f"{name}: 2 unreadable line(s)"), name  # the third has no end and never counted
    assert summary(tmp_path)["weights_pushed"] == 2


def test_wild_metrics_do_not_stop_the_report(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    values = [1e300, -1e300, float("nan"), float("inf"), None, "x", True, 10**400]
    run.lines(run.paths.learner / "metrics.jsonl", [{"updates": i, "rl_loss": v} for i, v in enumerate(values)])
    assert [tag for tag, _ in page_of(tmp_path).tags].count("svg") == 1


def test_summary_of_a_complete_run(tmp_path: Path) -> None:
    root = complete_run(tmp_path / "demo", episodes=40)
    numbers = summary(root, wall_s=123.44)
    assert list(numbers) == KEYS
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    ledger = [json.loads(line) for line in (root / "session.jsonl").read_text().splitlines()]
    by_segment = {i: [line for line in ledger if line["segment_index"] == i] for i in range(4)}
    demo_steps = sum(json.loads(line)["steps"] for line in (root / "demos" / "session.jsonl").read_text().splitlines())
    assert numbers["task"] == "insert_leg"
    assert numbers["demos"] == 10
    assert numbers["bc_success"] == np.mean([line["success"] for line in by_segment[0]])
    assert numbers["finetuned_success"] == np.mean([line["success"] for line in by_segment[2]])
    assert numbers["eval_episodes"] == 40
    assert numbers["control_steps"] == demo_steps + sum(line["steps"] for line in ledger)
    assert numbers["wall_s"] == 123.4
    assert (numbers["weights_pushed"], numbers["weights_rejected"]) == (90, 2)
    assert numbers["push_to_acting_ms_p50"] == 480.0
    assert numbers["report"] == str(root / "report.html")


def test_summary_of_an_empty_run_knows_nothing(tmp_path: Path) -> None:
    numbers = summary(tmp_path)
    assert list(numbers) == KEYS
    assert (numbers["task"], numbers["bc_success"], numbers["finetuned_success"]) == (None, None, None)
    assert (numbers["eval_episodes"], numbers["control_steps"], numbers["push_to_acting_ms_p50"]) == (
        0,
        0,
        None,
    )


def test_episodes_that_do_not_count_change_no_rate(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.segment(0, "eval:2:episodes", [True] * 2, range(2), [5] * 2)
    cut = {"episode_id": "cut", "valid": False, "late_ticks": 4, "reason": "recorder_node is silent"}
    run.segment(0, "eval:2:episodes", [False], [0], [3], **cut)
    numbers = summary(tmp_path)
    assert (numbers["bc_success"], numbers["control_steps"], numbers["late_ticks"]) == (1.0, 13, 4)
    assert page_of(tmp_path).has("does not count, episode_length: recorder_node is silent")


def test_the_newer_of_two_equal_groups_counts(tmp_path: Path) -> None:
    """A learner that resumed from its checkpoint logs some updates again."""
    path = tmp_path / "learner" / "metrics.jsonl"
    RunBuilder.lines(path, [{"updates": u, "il_loss": 1.0} for u in (50, 100, 150)])
    RunBuilder.lines(path, [{"updates": u, "il_loss": 2.0} for u in (100, 150)])
    rows = report.read_run(tmp_path).metrics
    assert [(row["updates"], row["il_loss"]) for row in rows] == [(50, 1.0), (100, 2.0), (150, 2.0)]


def test_report_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(tmp_path)
    before = path.read_text()

    def broken(*_: object) -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(report, "_context", broken)
    with pytest.raises(RuntimeError):
        write_report(tmp_path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_film_is_h264_that_browsers_play() -> None:
    frames = (np.full((video.HEIGHT_PX, video.WIDTH_PX, 3), 25 * i, np.uint8) for i in range(10))
    with av.open(io.BytesIO(video.encode(frames, 10.0))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == 10.0
        means = [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(stream)]
    np.testing.assert_allclose(means, 25.0 * np.arange(10), atol=6.0)


def test_films_without_simulator_state_show_the_recorded_camera(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    results = []
    for index, success in ((0, False), (2, True)):
        results += run.segment(index, "eval:1:episodes", [success], [0], [4 + index])
        run.record(results[-1], images=True)  # its qpos does not fit the cell
    uris = [a["src"] or "" for tag, a in page_of(tmp_path).tags if tag == "video"]
    lengths = []
    for uri in uris:
        with av.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as container:
            lengths.append(sum(1 for _ in container.decode(video=0)))
    assert lengths == [7 + 15, 7 + 15]


def test_an_episode_without_pictures_is_named(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for index in (0, 2):
        run.record(run.segment(index, "eval:1:episodes", [index > 0], [0], [4])[0], np.full((5, 16), np.nan))
    assert page_of(tmp_path).has("No film: qpos of shape")


def test_what_the_gate_held_back_is_told(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    folder = builder.paths.learner
    folder.mkdir(parents=True)
    for updates, passed, reason in ((500, True, "not shown worse"), (1000, False, f"worse {HOSTILE}")):
        line = Judged(updates, 0, passed, False, reason, 850_000, 20, 3, 18, "0" * 64)
        append_line(folder / GATE_LOG_NAME, asdict(line))
    with open(folder / GATE_LOG_NAME, "a") as file:
        file.write('{"updates": -1}\n')
    page = Page(write_report(builder.paths.root).read_text())
    assert page.has("judged 2 versions in simulation and held back 1") and page.has(f"worse {HOSTILE}")
    assert page.has("gate.jsonl: 1 unreadable line") and not page.has("not shown worse")
