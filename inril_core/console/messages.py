"""What goes between page and console, as dataclasses.

`ToPage`: each class says in `newest_wins` whether a newer message of its kind replaces one that waits to be sent (a
state), or whether each must arrive (an event). `FromPage`: each class is checked field by field when it is read.
Numbers are SI; poses are x y z [m] and the quaternion xyzw, base frame.

Over 400 lines: both directions of the protocol stand together, one class a message.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, with_config

MAX_MESSAGE_BYTES = 4096
"""Longest message of a page; a longer one ends its connection."""

Word = Annotated[str, StringConstraints(max_length=200)]
Person = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Number = Annotated[float, Field(ge=-1.0, le=1.0)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class BadMessage(ValueError):
    """A page sent what no page of ours sends."""


@dataclass(frozen=True)
class ToPage:
    """Base of what a page is told."""

    newest_wins: ClassVar[bool]
    """A newer one replaces one that waits to be sent."""

    @property
    def key(self) -> str:
        """Messages of one key replace each other where the newest wins."""
        return type(self).__name__

    def encode(self) -> str:
        """JSON text; what is not finite becomes null."""
        values = {"kind": _snake(type(self).__name__), **asdict(self)}
        return json.dumps(_plain(values), separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class CameraLine:
    """A camera of the contract."""

    name: str
    purposes: tuple[str, ...]
    """Of the episodes in which its pictures are recorded; a simulated camera is drawn in these alone."""


@dataclass(frozen=True)
class Quantity:
    """A field of the observation."""

    name: str
    size: int
    """Numbers that it has in `Observed.values`."""
    unit: str


@dataclass(frozen=True)
class Welcome(ToPage):
    """The first message: what does not change while the graph runs."""

    newest_wins: ClassVar[bool] = False
    client_id: str
    name: str
    """Of this page's operator, as the others see it."""
    task: str
    namespace: str
    run_id: str
    rate_hz: float
    has_gripper: bool
    """The action has a number for the gripper."""
    translation_scale_m: float
    """What an action of 1 moves in a tick."""
    rotation_scale_rad: float
    position_min_m: tuple[float, ...]
    position_max_m: tuple[float, ...]
    cameras: tuple[CameraLine, ...]
    observation: tuple[Quantity, ...]
    """In the order of `Observed.values`."""
    drives: bool
    """The graph's input device is this page (device:=browser)."""
    device: str
    drive_timeout_s: float


@dataclass(frozen=True)
class Control(ToPage):
    """Which page has control."""

    newest_wins: ClassVar[bool] = True
    holder_id: str
    """Empty: nobody's page."""
    holder: str
    holder_present: bool
    """False: that page is not connected any more."""
    pages: int
    """Connected, the holder's included."""
    taken_from: str
    """Whose page had control before; empty: nobody's."""
    changes: int
    """Counts the changes of hands."""


@dataclass(frozen=True)
class Beat(ToPage):
    """Sent often; a page names the newest it has seen in each `Drive`, which shows how late its drive messages are."""

    newest_wins: ClassVar[bool] = True
    beat: int


@dataclass(frozen=True)
class FaultLine:
    """A latched fault."""

    name: str
    detail: str


@dataclass(frozen=True)
class Safety(ToPage):
    """Arbiter and arm."""

    newest_wins: ClassVar[bool] = True
    heard: bool
    """The arbiter is heard now."""
    armed: bool
    in_control: str
    """policy, human, hold or reset."""
    faults: tuple[FaultLine, ...]
    arm_heard: bool
    arm_holds: bool
    """The arm's own watchdog holds."""
    needs_rearm: bool
    simulated: bool
    late_ticks: int
    device_trouble: str
    """Why nobody can drive with the input device now; empty: it works, or nothing is known of it."""


@dataclass(frozen=True)
class SessionState(ToPage):
    """What the session does."""

    newest_wins: ClassVar[bool] = True
    heard: bool
    segment: str
    state: str
    waiting_for: str
    waits_for_person: bool
    episode_id: str
    episodes: int
    successes: int
    failures: int
    steps: int
    steps_per_s: float
    eta_s: float
    trials: int
    """That the evaluation has planned; 0: the session is none."""
    failure_tags: tuple[str, ...]
    """What a person may say of a trial that failed."""
    reset_text: str
    """What the reset of the cell does or waits for."""
    recorder: str
    """idle, recording, finalising, refusing; empty: not heard."""
    recorder_reason: str
    free_gb: float


@dataclass(frozen=True)
class WantedPicture:
    """How a camera sees the cell when it is laid out."""

    camera: str
    jpeg: str
    """Base64; empty: the file cannot be used."""
    trouble: str
    """Why not, and the fix."""


@dataclass(frozen=True)
class WantedStart(ToPage):
    """Pictures of the start that is being laid out."""

    newest_wins: ClassVar[bool] = True
    start: int
    """The episode's; -1: no start is laid out, or there is no picture of it."""
    pictures: tuple[WantedPicture, ...]


@dataclass(frozen=True)
class ShownVersion:
    """An accepted version of the policy."""

    run_id: str
    n: int


@dataclass(frozen=True)
class PolicyState(ToPage):
    """Which weights act, wait and were refused."""

    newest_wins: ClassVar[bool] = True
    heard: bool
    active_run_id: str
    active_n: int
    pending_n: int
    pinned: bool
    accepted: int
    rejected: int
    last_rejected_n: int
    last_rejection: str
    """The gate's reason."""
    versions: tuple[ShownVersion, ...]
    """Accepted ones that can be rolled back to, newest last."""
    learner: str
    """State and reason of the learner; empty: not heard."""
    updates: int
    updates_per_s: float


@dataclass(frozen=True)
class Pose(ToPage):
    """Where the arm is and where it is told to be."""

    newest_wins: ClassVar[bool] = True
    joints_rad: tuple[float, ...]
    gripper_width_m: float
    measured: tuple[float, ...]
    """Empty: never heard."""
    commanded: tuple[float, ...]
    """Of the newest Target; empty: none yet."""
    age_s: float
    """Of the measurement, since it was heard."""
    commanded_age_s: float


@dataclass(frozen=True)
class Observed(ToPage):
    """What the policy is given in the newest tick of a running episode, without images."""

    newest_wins: ClassVar[bool] = True
    episode_id: str
    """Empty: none came yet."""
    purpose: str
    """demo, train or eval."""
    step: int
    """Number of actions executed in this episode before."""
    values: tuple[float, ...]
    """The contract's observation fields, flattened in order; null: not finite."""


@dataclass(frozen=True)
class LinkLine:
    """A link between nodes, as the node that hears it reports."""

    node: str
    name: str
    level: Literal["ok", "warning", "error", "stale"]
    message: str
    rate_hz: float
    age_s: float
    """Since its newest message; NaN: never heard."""
    drops: int


@dataclass(frozen=True)
class Links(ToPage):
    """All links and other lines of /diagnostics."""

    newest_wins: ClassVar[bool] = True
    lines: tuple[LinkLine, ...]


@dataclass(frozen=True)
class EpisodePoint:
    """An ended episode in the curves."""

    episode_id: str
    index: int
    """Within its segment, from 0; of a trial its place in the evaluation's plan."""
    purpose: str
    success: bool
    """What counts: a person's word before the task's."""
    by: str
    """Who says so: cell, episode_length, safety, session, or a person."""
    tag: str
    """Why a trial of an evaluation failed: a person's tag, or that the arm's safety stopped it; empty: nobody says."""
    task_says: str
    """The task's own word on it, success or failure; empty: it has none."""
    valid: bool
    steps: int
    interventions: int
    """How often a person took over; -1: not known, it ended before the console started."""
    human_share: float
    """Of its steps; NaN: not known."""


@dataclass(frozen=True)
class Episodes(ToPage):
    """The newest episodes of the run, oldest first."""

    newest_wins: ClassVar[bool] = True
    points: tuple[EpisodePoint, ...]


@dataclass(frozen=True)
class Disagreement(ToPage):
    """How far the policy's proposal is from what the person did, per tick of a person in control."""

    newest_wins: ClassVar[bool] = True
    steps: tuple[int, ...]
    distance: tuple[float, ...]
    """As ExecutedAction.disagreement: root mean square, contract units; 0: the same, 2: opposite."""
    episode_id: str


@dataclass(frozen=True)
class Notice(ToPage):
    """What came of something a person asked for, or what they must know."""

    newest_wins: ClassVar[bool] = False
    level: Literal["info", "warning", "error"]
    text: str
    asked: str = ""
    """What was asked for: the class name of the page's message; empty: nothing."""


@dataclass(frozen=True)
class Frame:
    """A camera's picture, sent as binary: length of the JSON head (2 bytes, big endian), the head, the JPEG."""

    camera: str
    frame_id: int
    """Counts the pictures of all cameras."""
    heard_ns: int
    """Monotonic."""
    jpeg: bytes = field(repr=False)

    def encode(self, now_ns: int) -> bytes:
        """See the class; the head says how old the picture is when it is handed to the connection."""
        age_s = round((now_ns - self.heard_ns) * 1e-9, 3)
        head = json.dumps({"camera": self.camera, "frame_id": self.frame_id, "age_s": age_s}).encode()
        return len(head).to_bytes(2, "big") + head + self.jpeg


@dataclass(frozen=True)
class Hello:
    """Who sits at the page."""

    name: Person
    kind: Literal["hello"] = "hello"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class TakeControl:
    """This page wants control."""

    from_id: Word
    """The holder that the person saw and means to relieve; empty: nobody."""
    kind: Literal["take_control"] = "take_control"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class GiveUpControl:
    """The holder's page only watches from here on. Whatever the arm does is not changed by it."""

    kind: Literal["give_up_control"] = "give_up_control"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class Drive:
    """What the person at the holder's page does with the arm, many times a second while they drive."""

    seq: Count
    """Counts up within a connection."""
    beat: Count
    """Newest `Beat` that the page had seen."""
    motion: Annotated[list[Number], Field(min_length=6, max_length=6)]
    """Share of the largest step: x, y, z, then a rotation vector; in the device's frame."""
    gripper: Number | None
    """1 closes, -1 opens; None: it keeps its width."""
    grab: bool
    """Takes control of the arm and keeps it."""
    release: bool
    """Hands it back, now."""
    kind: Literal["drive"] = "drive"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class SessionWord:
    """What the person says to the session."""

    word: Literal["success", "failure", "discard", "redo", "pause", "resume", "ready"]
    """Of a `Command`."""
    episode_id: Word
    kind: Literal["session_word"] = "session_word"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class Stop:
    """Disarm at once. Any page may."""

    kind: Literal["stop"] = "stop"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class ArmAgain:
    """A person has looked, and arms."""

    kind: Literal["arm_again"] = "arm_again"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class RollBackTo:
    """Act with an accepted version again and stay there."""

    run_id: Word
    n: Count
    kind: Literal["roll_back_to"] = "roll_back_to"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class Unpin:
    """Let new versions in again."""

    kind: Literal["unpin"] = "unpin"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class Label:
    """A person's label of an ended episode."""

    episode_id: Word
    label: Literal["success", "failure", "unknown"]
    """Of a `vocabulary.Label`."""
    tag: Word
    """One of `SessionState.failure_tags`; empty: none."""
    kind: Literal["label"] = "label"


@with_config(extra="forbid", strict=True, allow_inf_nan=False)
@dataclass(frozen=True)
class FrameShown:
    """The page is ready for the next picture."""

    frame_id: Count
    kind: Literal["frame_shown"] = "frame_shown"


FromPage = (
    Hello
    | TakeControl
    | GiveUpControl
    | Drive
    | SessionWord
    | Stop
    | ArmAgain
    | RollBackTo
    | Unpin
    | Label
    | FrameShown
)

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Annotated[FromPage, Field(discriminator="kind")])


def read(text: str) -> FromPage:
    """A page's message.

    Raises:
        BadMessage: too long, no JSON, an unknown kind, or a field that is missing, unknown or out of its range.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"{len(text)} characters; at most {MAX_MESSAGE_BYTES} are read")
    try:
        message: FromPage = _ADAPTER.validate_json(text)
        return message
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadMessage(f"{where}: {first['msg']}"[:200]) from error


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
