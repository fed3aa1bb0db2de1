"""The session's states: which episode comes next, what it waits for, how it ends, and whether it counts.

Facts come in with the time on the monotonic clock [ns]; what others shall do goes out as requests. Over 400 lines:
every transition between the states is in one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from inril_core.backoff import wait_s
from inril_core.outcome import Said, success_of
from inril_core.session.arming import ArmAtStart
from inril_core.session.evaluating import Closing, Evaluating
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.plan import Segment, episode_seed
from inril_core.session.readiness import NOTHING, Readiness, Wait
from inril_core.session.requests import (
    Announce,
    Attempt,
    BeginEpisode,
    CancelReset,
    EndEpisode,
    EventKind,
    Request,
    ResetCell,
    Tell,
)
from inril_core.session.reset import NS_PER_S, Reset
from inril_core.session.states import Ending, EpisodeOutcome, ExitCode, SessionSettings, State
from inril_core.session.trials import Trials

END_GRACE_S = 3.0
"""Longest wait for the tick that closes an episode after it was asked to end."""
RECORDED_S = 5.0
"""Longest wait for the recorder to have an ended episode whole on disk."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
SESSION = "session"


class Session:
    """One run of a plan. Call `poll` regularly and take `requests` after each call."""

    def __init__(
        self,
        settings: SessionSettings,
        plan: Sequence[Segment],
        ledger: Ledger,
        readiness: Readiness,
        unix_s: Callable[[], float],
        arm_at_start: bool = False,
        trials: Trials | None = None,
    ) -> None:
        """Args:
        trials: of an evaluation that was planned trial by trial; ``plan`` is then one segment with as many episodes.
        """
        self.requests: deque[Request] = deque()
        """Oldest first; whoever acts on them takes them out."""
        self.waiting: Wait = NOTHING
        self.attempt: Attempt | None = None
        self.steps = 0
        """Steps of the episodes that ended under this session."""
        self.end_reason = ""
        self.exit_code = ExitCode.NOT_FINISHED
        self.arming = ArmAtStart(arm_at_start, readiness, self.requests.append)
        self.plan = plan
        self.ledger = ledger
        self.readiness = readiness
        self.paused_by = ""
        self.reset: Reset | None = None
        self.ending: Ending | None = None
        self.ended: EpisodeResult | None = None
        """Closed, and not written down yet."""
        self._settings = settings
        self.evaluating = Evaluating(trials, readiness, self.requests.append)
        self._unix_s = unix_s
        self._state = State.WAITING
        self._by_hand = False
        """A person, and nobody else, works on the reset."""
        self._deadline_ns = self._began_ns = 0
        self._retry_ns = self._failures = 0
        self._failure = ""
        self._asked_attempts: dict[int, int] = {}
        self._alone_since_ns: int | None = None
        self._reset_unserved = self._begin_unserved = ""

    @property
    def state(self) -> State:
        """What the session does."""
        if self._state is State.WAITING:
            if self.arming.asking:
                return State.ARMING
            return State.PAUSED if self.paused_by else State.WAITING
        return self._state

    @property
    def segment_index(self) -> int:
        """The first segment that is not done; the plan's length when all are."""
        if self.evaluating.decided(self.ledger.results):
            return len(self.plan)
        for index, segment in enumerate(self.plan):
            if not self.ledger.progress(index).done(segment):
                return index
        return len(self.plan)

    def hear_services(self, reset_unserved: str, begin_unserved: str) -> None:
        """Why cell/reset and observation/begin_episode could not be called; empty: they can."""
        self._reset_unserved = reset_unserved
        self._begin_unserved = begin_unserved

    def poll(self, now_ns: int) -> None:
        """Let time pass."""
        if self._state is State.RECORDING:
            self._await_recording(now_ns)
        if self._state is State.WAITING:
            self._try_next(now_ns)
        elif self._state is State.RESETTING:
            self._watch_reset(now_ns)
        elif self._state is State.RUNNING:
            self._watch(now_ns)
        elif self._state is State.ENDING and now_ns > self._deadline_ns:
            self._give_up_running("no node closed the episode in time", now_ns)
        self._watch_patience(now_ns)

    def _try_next(self, now_ns: int) -> None:
        self.arming.poll(now_ns)
        index = self.segment_index
        if self.arming.wanted:
            self.waiting = self.arming.waiting
        elif self.paused_by:  # also at the end of the plan: what was done last can still be labelled or done again
            self.waiting = Wait(f"{self.paused_by}, who paused the session (`inril episode resume`)", person=True)
        elif index == len(self.plan):
            self.waiting = self.readiness.drained(now_ns)
            if not self.waiting:
                self._end(ExitCode.FINISHED, "plan finished")
        else:
            self.waiting = (
                self.readiness.blocked_by(self.plan[index].purpose, now_ns)
                or Wait("" if self._settings.reset_by_hand else self._reset_unserved)
                or Wait(self._begin_unserved)
                or Wait(self._failure if now_ns < self._retry_ns else "")
                or self.evaluating.choose(self.ledger.progress(index).episodes, now_ns)
            )
            if not self.waiting:
                self._ask_reset(index, now_ns)

    def _next_attempt(self, index: int) -> Attempt:
        segment = self.plan[index]
        number = self.ledger.progress(index).episodes
        earlier = sum(self.ledger.progress(i).episodes for i in range(index) if self.plan[i].purpose == segment.purpose)
        if segment.purpose == "eval":
            earlier = 0  # every evaluation meets the same starts
        # also counts resets that no episode followed: a new reset has a new id
        attempt = max(self.ledger.attempts(index), self._asked_attempts.get(index, -1) + 1)
        self._asked_attempts[index] = attempt
        settings, trial = self._settings, self.evaluating.planned(number)
        return Attempt(
            f"{settings.run_id}-{index}-{segment.purpose}-{attempt:05d}-{settings.boot_id[:6]}",
            index,
            segment,
            number,
            episode_seed(segment.purpose, earlier + number, settings.seed) if trial is None else trial.seed,
            trial,
        )

    def _ask_reset(self, index: int, now_ns: int) -> None:
        attempt = self.attempt = self._next_attempt(index)
        self._state, self._by_hand = State.RESETTING, self._settings.reset_by_hand
        self.reset = Reset(attempt.episode_id, self._settings.reset_times, now_ns)
        if not self._by_hand:
            self.requests.append(ResetCell(attempt))
        self._watch_reset(now_ns)

    def on_reset_answer(self, reset_id: str, success: bool, working: bool, message: str, now_ns: int) -> None:
        """The answer of cell/reset."""
        if self.reset is not None and not self._by_hand:
            self.reset.on_answer(reset_id, success, working, message, now_ns)
            self._watch_reset(now_ns)

    def on_reset_status(self, reset_id: str, state: int, text: str, now_ns: int) -> None:
        """The heartbeat of a reset."""
        if self.reset is not None and not self._by_hand:
            self.reset.on_status(reset_id, state, text, now_ns)
            self._watch_reset(now_ns)

    def _watch_reset(self, now_ns: int) -> None:
        reset, attempt = self.reset, self.attempt
        if self._state is not State.RESETTING or reset is None or attempt is None:
            return
        if self._by_hand and not reset.done:
            self.waiting = Wait(
                f"a person to lay out the cell for {attempt.purpose} episode {attempt.index} (start {attempt.seed}); "
                "then, with nobody in it, `inril episode ready`",
                person=True,
            )
            return
        reset.poll(served=not self._reset_unserved, now_ns=now_ns)
        if reset.lost:
            self.requests.append(CancelReset(reset.reset_id))
            self._failed(reset.lost, now_ns)
        elif not reset.done:
            self.waiting = Wait(reset.waiting_for(now_ns))
        else:
            self._laid_out_now(now_ns)

    def _laid_out_now(self, now_ns: int) -> None:
        """The cell is ready; what came up meanwhile is waited for without laying it out again."""
        assert self.attempt is not None
        if self._reset_unserved and not self._by_hand:  # the arm's node has gone, and what it laid out with it
            self._failed(self._reset_unserved, now_ns)
            return
        self.waiting = self.readiness.blocked_by(self.attempt.purpose, now_ns, laid_out=True) or Wait(
            self._begin_unserved
        )
        if self.waiting:
            return
        self.waiting = self.evaluating.begin(self.attempt)
        if self.waiting:
            return
        self.reset, self._state = None, State.BEGINNING
        self.ending, self._began_ns = None, now_ns
        self.readiness.note_begin()
        self._announce(EventKind.BEGIN)
        self.requests.append(BeginEpisode(self.attempt))

    def on_begun(self, episode_id: str, success: bool, message: str, now_ns: int) -> None:
        """The answer of observation/begin_episode, or why there is none."""
        if self._state is not State.BEGINNING or self.attempt is None or episode_id != self.attempt.episode_id:
            return  # the outcome was faster than this answer
        if success:
            self._state, self._failures = State.RUNNING, 0
            return
        reason = f"not begun: {message}"
        self._failed(reason, now_ns, keep=True)
        self._finish(None, False, 0, SESSION, reason, False, now_ns)

    def _watch(self, now_ns: int) -> None:
        trouble = self.readiness.trouble_while_running(now_ns)
        ran_s = (now_ns - self._began_ns) * 1e-9
        if not trouble and ran_s > 2.0 * self._settings.episode_length_steps:
            trouble = f"the episode has run for {ran_s:.0f} s"
        if trouble:
            self.end_running(Ending(SESSION, trouble), now_ns)

    def end_running(self, ending: Ending, now_ns: int) -> None:
        """Ask for the end of the episode that runs."""
        assert self.attempt is not None
        self.ending, self._state = ending, State.ENDING
        self._deadline_ns = now_ns + round(END_GRACE_S * NS_PER_S)
        self.requests.append(Tell(f"ending {self.attempt.episode_id}: {ending.reason}", warning=ending.by == SESSION))
        self.requests.append(EndEpisode(self.attempt.episode_id, ending.success, ending.by, ending.reason))

    def on_end_refused(self, episode_id: str, now_ns: int) -> None:
        """observation/end_episode knows of no such episode."""
        if self._state is State.ENDING and self.attempt is not None and episode_id == self.attempt.episode_id:
            assert self.ending is not None
            self._give_up_running(self.ending.reason, now_ns)

    def _give_up_running(self, reason: str, now_ns: int) -> None:
        ending = self.ending
        success = None if ending is None else ending.success
        by = SESSION if ending is None or success is None else ending.by
        self._finish(success, False, 0, by, reason, False, now_ns)

    def on_outcome(self, outcome: EpisodeOutcome, now_ns: int) -> None:
        """The running episode was closed."""
        running = self._state in (State.BEGINNING, State.RUNNING, State.ENDING)
        if not running or self.attempt is None or outcome.episode_id != self.attempt.episode_id:
            return
        ending = self.ending
        trouble = ending.reason if ending is not None and ending.spoils else ""
        trouble = trouble or self.readiness.trouble_while_running(now_ns)
        by, labels = outcome.source, []
        if ending is not None and ending.by != SESSION:  # a person's word is newer than the outcome's
            by, labels = ending.by, [Said(ending.success, ending.by, ending.reason)]
        success = success_of(outcome, labels).success
        terminated = outcome.terminated or any(said.success is not None for said in labels)
        self._finish(success, terminated, outcome.step + 1, by, trouble or outcome.reason, not trouble, now_ns)

    def _finish(
        self, success: bool | None, terminated: bool, steps: int, by: str, reason: str, valid: bool, now_ns: int
    ) -> None:
        attempt = self.attempt
        assert attempt is not None
        closing = self.evaluating.close(attempt, Closing(success, terminated, by, reason, valid))
        success, terminated, by, reason, valid = closing
        self._announce(EventKind.END, success, by, reason)
        self.ended = EpisodeResult(
            segment_index=attempt.segment_index,
            segment=attempt.segment.name,
            index=attempt.index,
            episode_id=attempt.episode_id,
            purpose=attempt.segment.purpose,
            seed=attempt.seed,
            steps=steps,
            success=bool(success),
            terminated=terminated,
            source=by,
            reason=reason,
            version_n=-1 if attempt.purpose == "demo" else self.readiness.active_version,
            late_ticks=self.readiness.late_ticks_while_running(),
            duration_s=(now_ns - self._began_ns) * 1e-9,
            ended_unix_s=self._unix_s(),
            valid=valid,
        )
        self._state, self.ending, self.waiting = State.RECORDING, None, NOTHING
        self._deadline_ns = now_ns + round(RECORDED_S * NS_PER_S)
        self._await_recording(now_ns)

    def _await_recording(self, now_ns: int) -> None:
        """Count the ended episode once it is whole on disk; what the recorder lost is done again."""
        result = self.ended
        assert result is not None
        if result.valid:
            trouble = self.readiness.not_recorded(result.episode_id, result.steps)
            if trouble is None and now_ns > self._deadline_ns:
                trouble = "recorder_node did not confirm the episode in time"
            if trouble is None:
                return
            if trouble:
                self.requests.append(Tell(f"{result.episode_id} does not count: {trouble}"))
                result = replace(result, valid=False, reason=trouble)
        self._write_down(result)

    def _write_down(self, result: EpisodeResult) -> None:
        try:
            self.ledger.append(result)
        except OSError as error:  # kept, and tried again with the next poll
            self.ended = result
            self.waiting = Wait(f"session.jsonl to be writable: {error}", person=True)
            return
        self.steps += result.steps
        self._note_trained()
        self._state, self.ended, self.attempt = State.WAITING, None, None

    def _note_trained(self) -> None:
        self.readiness.note_trained(sum(r.steps for r in self.ledger.results if r.purpose == "train" and r.valid))

    def _failed(self, reason: str, now_ns: int, keep: bool = False) -> None:
        """Nothing came of an attempt: the next one comes later, and later still if it fails again."""
        self.requests.append(Tell(reason))
        self._failures += 1
        self._retry_ns = now_ns + round(wait_s(self._failures - 1, FIRST_RETRY_S, LONGEST_RETRY_S) * NS_PER_S)
        self._failure = reason
        self.waiting = Wait(reason)
        if not keep:
            self._state, self.reset, self.attempt = State.WAITING, None, None

    def drop_reset(self) -> None:
        """Stop a reset that is no longer wanted."""
        if self._state is State.RESETTING:
            assert self.reset is not None
            if not self._by_hand:
                self.requests.append(CancelReset(self.reset.reset_id))
            self._state, self.reset, self.attempt = State.WAITING, None, None

    def confirm_reset(self, now_ns: int) -> str:
        """A person says that the cell is laid out; why that is not to be said now, or empty.

        Where cell/reset is served too, the arm does its part from here on.
        """
        if not self._settings.reset_by_hand:
            return "the arm's node lays the cell out (reset: service); there is nothing to confirm"
        if self._state is not State.RESETTING or self.attempt is None or self.reset is None:
            return f"no reset waits for it: the session is {self.state}"
        if not self._by_hand or self.reset.done:
            return f"it was said already: the session waits for {self.waiting.text}"
        if self._reset_unserved:
            self.reset.done = True
        else:
            self._by_hand = False
            self.reset = Reset(self.attempt.episode_id, self._settings.reset_times, now_ns)
            self.requests.append(ResetCell(self.attempt))
        self._watch_reset(now_ns)
        return ""

    def _watch_patience(self, now_ns: int) -> None:
        limit_s = self._settings.unattended_wait_s
        alone = self.waiting.person and not self.paused_by and self._state is not State.DONE
        if limit_s is None or not alone:
            self._alone_since_ns = None
        elif self._alone_since_ns is None:
            self._alone_since_ns = now_ns
        elif now_ns - self._alone_since_ns > limit_s * NS_PER_S:
            self._end(ExitCode.NOBODY_CAME, f"nobody came within {limit_s:g} s (unattended): {self.waiting.text}")

    def _end(self, code: ExitCode, reason: str) -> None:
        self._state, self.exit_code, self.end_reason = State.DONE, code, reason

    def close(self, now_ns: int) -> None:
        """The process ends: so does the running episode, for the recorder to close it."""
        if self._state in (State.RUNNING, State.ENDING, State.BEGINNING):
            self._finish(None, False, 0, SESSION, "session ended", False, now_ns)
        elif self.ended is not None:
            self._write_down(replace(self.ended, valid=False, reason="session ended"))
        self.drop_reset()

    def _announce(self, kind: EventKind, success: bool | None = None, by: str = "", reason: str = "") -> None:
        assert self.attempt is not None
        self.requests.append(Announce(kind, self.attempt.episode_id, self.attempt, success, by, reason))
