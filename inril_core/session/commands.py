"""What a person may say to a session, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

from inril_core.session.requests import Announce, EventKind, Tell
from inril_core.session.session import Session
from inril_core.session.states import Ending, State
from inril_core.vocabulary import Command

_SUCCESS = {Command.SUCCESS: True, Command.FAILURE: False}
_WORDS = {Command.SUCCESS: "a success", Command.FAILURE: "a failure", Command.DISCARD: "discarded"}


def obey(session: Session, code: int, episode_id: str, by: str, now_ns: int, tag: str = "") -> tuple[bool, str]:
    """Do what a person says; whether it was done, and what came of it or why not.

    episode_id: which episode is meant; empty: the running one, or the last.
    tag: why a trial of an evaluation failed; empty: not said.
    """
    if code not in [command.value for command in Command]:
        return False, f"command {code} is unknown; give one of {[f'{c.value} ({c.name})' for c in Command]}"
    if not by.strip():
        return False, "by is empty: say who you are"
    if session.state is State.DONE:
        return False, f"the session is over: {session.end_reason}"
    command = Command(code)
    if tag and command is not Command.FAILURE:
        return False, f"tag = {tag!r}: give it with a failure only"
    if command is Command.PAUSE:
        session.paused_by = by
        session.drop_reset()
        return True, "paused: no further episode begins, and the session does not end, until `inril episode resume`"
    if command is Command.RESUME:
        session.paused_by = ""
        return True, "the session goes on"
    if command is Command.READY:
        refusal = session.confirm_reset(now_ns)
        return not refusal, refusal or "the cell is laid out"
    running = "" if session.attempt is None else session.attempt.episode_id
    if command is Command.REDO and session.state not in (State.RUNNING, State.ENDING, State.RECORDING):
        return _take_back(session, episode_id, by)
    if session.state not in (State.RUNNING, State.ENDING, State.RECORDING):
        return False, f"no episode runs: the session is {session.state}; an earlier one: `inril label`"
    if episode_id not in ("", running):
        return False, f"{episode_id} does not run ({running} does); an earlier one: `inril label`"
    return _end(session, Command.DISCARD if command is Command.REDO else command, by, now_ns, tag)


def _end(session: Session, command: Command, by: str, now_ns: int, tag: str) -> tuple[bool, str]:
    assert session.attempt is not None
    episode_id = session.attempt.episode_id
    word = f"{_WORDS[command]}{tag and f' ({tag})'}, says {by}"
    if session.state is State.ENDING:
        assert session.ending is not None
        return False, f"{episode_id} is ending already: {session.ending.reason}"
    success, over = _SUCCESS.get(command), session.state is State.RECORDING  # over: it came to its own end just before
    if success is False or (over and success):  # in an evaluation: on disk before the person hears that it is done
        refusal = session.evaluating.label(session.attempt.index, episode_id, success, tag, by)
        if refusal:
            return False, refusal
    if success is None:
        session.requests.append(Announce(EventKind.DISCARD, episode_id, None, None, by, word))
    if over:
        assert session.ended is not None
        if success is None:
            session.ended = replace(session.ended, success=False, valid=False, reason=word)
        else:
            if not session.evaluating.trials_n:  # a trial keeps the task's word beside the person's
                session.ended = replace(session.ended, success=success, source=by)
            session.requests.append(Announce(EventKind.LABEL, episode_id, None, success, by))
    else:
        session.end_running(Ending(by, word, success, spoils=command is Command.DISCARD), now_ns)
    return True, f"{episode_id}: {word}"


def _take_back(session: Session, episode_id: str, by: str) -> tuple[bool, str]:
    counted = [result for result in session.ledger.results if result.valid]
    if not counted:
        return False, "no episode has counted yet; there is nothing to do again"
    last = counted[-1]
    if episode_id not in ("", last.episode_id):
        return False, f"{episode_id} is not the last episode that counted ({last.episode_id} is)"
    reason = f"taken back by {by}"
    try:
        session.ledger.append(replace(last, valid=False, success=False, reason=reason))
    except OSError as error:
        return False, f"session.jsonl cannot be written: {error}"
    session.drop_reset()  # it was for the number after
    session.requests.append(Announce(EventKind.DISCARD, last.episode_id, None, None, by, reason))
    session.requests.append(Tell(f"{last.episode_id} is done again: {reason}", warning=False))
    return True, f"{last.episode_id} does not count and is done again from the same start"


def label_earlier(session: Session, episode_id: str, success: bool | None, by: str, tag: str = "") -> tuple[bool, str]:
    """A person's label of an episode that has ended; None: nobody says any more.

    Of a trial of an evaluation it is a note beside the result, with a tag or without.
    """
    if not by.strip():
        return False, "by is empty: say who you are"
    if session.attempt is not None and session.attempt.episode_id == episode_id:
        return False, f"{episode_id} is not over; end it with `inril episode success` or failure"
    result = session.ledger.find(episode_id)
    if result is None:
        return False, f"{episode_id!r} is no episode of this run; see session.jsonl"
    if session.evaluating.trials_n and not result.valid:
        return False, f"{episode_id} does not count and is done again ({result.reason}); label the trial that counts"
    refusal = session.evaluating.label(result.index, episode_id, success, tag, by)
    if refusal:
        return False, refusal
    if not session.evaluating.trials_n:
        try:
            session.ledger.append(replace(result, success=bool(success), source=by))
        except OSError as error:
            return False, f"session.jsonl cannot be written: {error}"
    session.requests.append(Announce(EventKind.LABEL, episode_id, None, success, by))
    return True, ""
