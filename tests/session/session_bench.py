"""A session alone: its clock, the other nodes' statuses, and a cell and an observation_node that obey it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from inril_core.contract import load_contract
from inril_core.session import requests as ask
from inril_core.session.commands import obey
from inril_core.session.ledger import Ledger
from inril_core.session.plan import parse_plan
from inril_core.session.readiness import Expected, Readiness
from inril_core.session.reset import NS_PER_S, ResetState
from inril_core.session.session import Session
from inril_core.session.states import EpisodeOutcome, SessionSettings, State
from inril_core.session.statuses import ArbiterNews, PolicyNews, RecorderNews
from inril_core.session.trials import Trials

CONTRACT = load_contract("insert_leg")
POLL_S = 0.5


class Arm:
    """Serves cell/reset: answers as the test says, and keeps what it was asked."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.on_ask: Callable[[str, int], None] = self.lay_out_at_once

    def lay_out_at_once(self, reset_id: str, now_ns: int) -> None:
        """As the simulated cell does."""
        self.session.on_reset_answer(reset_id, True, False, "", now_ns)

    def say(self, reset_id: str, state: ResetState, text: str, now_ns: int) -> None:
        """Publish reset_status."""
        self.session.on_reset_status(reset_id, state, text, now_ns)


class SessionBench:
    """A session whose time is moved by hand. Every status stays fresh unless it is taken from `news`."""

    def __init__(
        self,
        folder: Path,
        plan: str = "demo:3:episodes",
        arm_at_start: bool = False,
        trials: Trials | None = None,
        **settings: Any,
    ) -> None:
        self.now_ns = 10 * NS_PER_S
        self.path = folder / "session.jsonl"
        self.plan = parse_plan(plan)
        expected = Expected(policy=trials is not None, learner=False)
        self.readiness = Readiness(CONTRACT, expected, lockstep=False, now_ns=self.now_ns)
        self.session = Session(
            SessionSettings("run", "b00t1d", CONTRACT.episode_length_steps, **settings),
            self.plan,
            Ledger(self.path),
            self.readiness,
            lambda: 1e9 + self.now_ns * 1e-9,
            arm_at_start,
            trials,
        )
        self.arm = Arm(self.session)
        self.news: dict[str, Any] = {
            "arbiter": ArbiterNews("a", armed=True, recorder_boot_id="r"),
            "recorder": RecorderNews("r"),
            "policy": PolicyNews(active_n=0),
        }
        self.served = True
        self.done: list[ask.Request] = []
        """Everything asked for, in order."""
        self.obeys_end = self.obeys_choice = True

    @property
    def now_s(self) -> float:
        return self.now_ns * 1e-9

    @property
    def state(self) -> State:
        return self.session.state

    def step(self, seconds: float = POLL_S) -> None:
        """Let time pass, and everybody do what they were asked."""
        self.now_ns += round(seconds * NS_PER_S)
        for news in self.news.values():
            self.readiness.hear(news, self.now_ns)
        self.session.hear_services("" if self.served else "cell/reset is not served", "")
        self.session.poll(self.now_ns)
        self.act()

    def act(self) -> None:
        while self.session.requests:
            request = self.session.requests.popleft()
            self.done.append(request)
            match request:
                case ask.ResetCell(attempt):
                    self.arm.asked.append(attempt.episode_id)
                    if self.served:
                        self.arm.on_ask(attempt.episode_id, self.now_ns)
                case ask.ChooseVersion(n):
                    if self.obeys_choice:
                        self.news["policy"] = replace(self.news["policy"], pending_n=n)
                case ask.CancelReset(reset_id):
                    self.arm.cancelled.append(reset_id)
                case ask.BeginEpisode(attempt):
                    chosen = self.news["policy"].pending_n
                    if chosen >= 0 and attempt.purpose != "demo":  # the policy swaps at an episode's first step
                        self.news["policy"] = replace(self.news["policy"], active_n=chosen, pending_n=-1)
                        self.readiness.hear(self.news["policy"], self.now_ns)
                    self.session.on_begun(attempt.episode_id, True, "", self.now_ns)
                case ask.EndEpisode(episode_id, success, by, reason):
                    if self.obeys_end:
                        self.close(episode_id, bool(success), success is not None, by, reason)

    def until(self, state: State, limit_s: float = 60.0) -> None:
        """Let time pass until the session is in this state."""
        begun_s = self.now_s
        while self.session.state is not state:
            assert self.now_s - begun_s < limit_s, f"{self.session.state}: {self.session.waiting}"
            self.step()

    def close(self, episode_id: str, success: bool, terminated: bool, by: str, reason: str, steps: int = 20) -> None:
        """observation_node closes the episode, and the recorder has it on disk."""
        self.news["recorder"] = RecorderNews("r", episode_id=episode_id, last_step_on_disk=steps - 1)
        self.readiness.hear(self.news["recorder"], self.now_ns)
        self.session.on_outcome(EpisodeOutcome(episode_id, steps - 1, success, terminated, by, reason), self.now_ns)

    def end_by_cell(self, success: bool = True) -> str:
        """The running episode comes to its own end; its id."""
        self.until(State.RUNNING)
        assert self.session.attempt is not None
        episode_id = self.session.attempt.episode_id
        self.close(episode_id, success, success, "cell" if success else "episode_length", "")
        self.act()
        return episode_id

    def say(self, command: int, episode_id: str = "", by: str = "anna") -> tuple[bool, str]:
        """A person's word."""
        answer = obey(self.session, command, episode_id, by, self.now_ns)
        self.act()
        return answer

    def asked(self, kind: type) -> list[Any]:
        """Requests of a kind so far."""
        return [request for request in self.done if isinstance(request, kind)]
