"""Pins: kill -9 of each node while fine-tuning does what the failure table says; no step is lost or doubled.

One graph lives through all of it, in the order of the tests; the last test counts what is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from inril_common.convert import stamp_to_ns
from inril_msgs.msg import ArbiterStatus, EpisodeEvent, ExecutedAction, RecorderStatus

from inril_core.session.ledger import EpisodeResult
from tests.graph.conftest import Start
from tests.graph.harness import STALE_S, START_S, GraphRun

pytestmark = pytest.mark.timeout(600)
RESPAWN_S = dict.fromkeys(("policy_node", "observation_node", "sim_cell"), STALE_S + 2.0)
"""Their absence must be noticed before they are back."""


@pytest.fixture(scope="module")
def graph(start: Start, preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRun]:
    run_dir = tmp_path_factory.mktemp("kills") / "run"
    arguments = {**start.arguments(), "preset": preset, "plan": "train:1000000:steps"}
    with GraphRun("finetune", run_dir, RESPAWN_S, real_time_factor=1.0, **arguments) as graph:
        graph.until(lambda: graph.status("session") and graph.status("recorder"), "the graph", START_S)
        yield graph


def valid_results(graph: GraphRun) -> int:
    return sum(result.valid for result in graph.results())


def goes_on(graph: GraphRun) -> None:
    """A further episode is run to its end and counted."""
    before = valid_results(graph)
    graph.until(lambda: valid_results(graph) > before, "a further valid episode", 120.0)


def running(graph: GraphRun) -> str:
    """Wait until an episode has begun that will go on for a while; its id."""

    def young() -> bool:
        status = graph.status("recorder")
        recording = status.state == RecorderStatus.RECORDING and 3 <= status.last_step_on_disk <= 8
        return recording and result_of(graph, status.episode_id) is None

    graph.until(young, "a running episode", START_S)
    return str(graph.status("recorder").episode_id)


def result_of(graph: GraphRun, episode_id: str) -> EpisodeResult | None:
    return next((r for r in graph.results() if r.episode_id == episode_id), None)


def is_done_again(graph: GraphRun, episode_id: str) -> EpisodeResult:
    """The episode is in the ledger, does not count, and the next one that counts has its number and start."""
    cut: EpisodeResult = graph.until(lambda: result_of(graph, episode_id), "the end of the cut episode", START_S)
    assert not cut.valid
    goes_on(graph)
    again = next(r for r in graph.results() if r.valid and r.ended_unix_s > cut.ended_unix_s)
    assert (again.index, again.seed) == (cut.index, cut.seed)
    return cut


def fault(graph: GraphRun, name: str) -> bool:
    status: ArbiterStatus | None = graph.status("arbiter")
    return status is not None and any(name in latched for latched in status.faults)


def test_policy_killed_means_hold_and_restart_resumes_the_active_pack(graph: GraphRun) -> None:
    active = graph.until(lambda: (s := graph.status("policy")) and s.active_n > 0 and s, "pushed weights to act", 120.0)
    version = (active.active_run_id, active.active_n)
    episode_id = running(graph)
    old = graph.kill("policy_node")
    graph.until(lambda: fault(graph, "policy_action_stale"), "fault policy_action_stale")
    assert graph.status("arbiter").in_control == ExecutedAction.SOURCE_HOLD
    graph.restarted("policy_node", old)
    graph.until(lambda: graph.status("policy").boot_id != active.boot_id, "the restarted policy", START_S)
    resumed = graph.status("policy")
    assert (resumed.active_run_id, resumed.active_n) >= version
    assert fault(graph, "policy_action_stale"), "a fault must not clear by itself"
    graph.arm()
    assert "policy_action_stale" in is_done_again(graph, episode_id).reason
    cut = graph.episode(episode_id)
    assert cut.source[-1] == ExecutedAction.SOURCE_HOLD, "the hold is on record"


def test_learner_killed_robot_goes_on_and_the_learner_catches_up(graph: GraphRun) -> None:
    boot = graph.until(lambda: (s := graph.status("learner")) and s.boot_id, "learner status", START_S)
    graph.kill("learner_node")
    goes_on(graph)
    graph.until(lambda: graph.status("learner").boot_id != boot, "the restarted learner", START_S)
    recorded = sum(result.steps for result in graph.results() if result.valid)
    graph.until(
        lambda: graph.status("learner").ingested_steps >= recorded, "the learner to pull what it lacks", START_S
    )
    published_n = graph.status("policy").highest_n
    graph.until(lambda: graph.status("policy").highest_n > published_n, "weights from the restarted learner", START_S)


def test_recorder_killed_ends_the_episode_and_what_was_written_is_kept(graph: GraphRun) -> None:
    episode_id = running(graph)
    status = graph.status("recorder")
    on_disk, boot = status.last_step_on_disk, status.boot_id
    old = graph.kill("recorder_node")
    back_s = psutil.Process(graph.restarted("recorder_node", old)).create_time()
    graph.until(lambda: result_of(graph, episode_id), "the end of the episode", START_S)
    graph.until(lambda: graph.status("recorder").boot_id != boot, "the restarted recorder", START_S)
    restarted = graph.status("recorder").boot_id
    graph.until(lambda: graph.status("arbiter").recorder_boot_id == restarted, "the arbiter to hear of it", START_S)
    graph.arm()
    is_done_again(graph, episode_id)
    begun = [event for event in graph.events if event.event == EpisodeEvent.BEGIN]
    later = begun[[event.episode_id for event in begun].index(episode_id) + 1 :]
    begun_ns = [stamp_to_ns(event.header.stamp) for event in later]
    assert begun_ns and min(begun_ns) * 1e-9 >= back_s, "no episode begins without a recorder"
    recovered = graph.episode(episode_id)
    assert not recovered.complete
    assert recovered.steps >= on_disk


def test_observation_node_killed_means_hold(graph: GraphRun) -> None:
    episode_id = running(graph)
    old = graph.kill("observation_node")
    graph.until(lambda: fault(graph, "observation_stale"), "fault observation_stale")
    assert graph.status("arbiter").in_control == ExecutedAction.SOURCE_HOLD
    graph.restarted("observation_node", old)
    assert fault(graph, "observation_stale"), "a fault must not clear by itself"
    graph.arm()
    is_done_again(graph, episode_id)


def test_robot_killed_needs_a_person_and_fresh_state(graph: GraphRun) -> None:
    episode_id, boot = running(graph), graph.status("robot").boot_id
    old = graph.kill("sim_cell")
    graph.until(lambda: graph.status("arbiter").faults, "a fault")
    graph.restarted("sim_cell", old)
    graph.until(lambda: graph.status("robot").boot_id != boot, "the restarted arm", START_S)
    commanded = graph.targets
    seq = graph.status("robot").seq
    graph.until(lambda: graph.status("robot").seq > seq + 10, "fresh state")
    assert graph.status("arbiter").faults, "nothing re-arms itself"
    assert graph.targets == commanded, "nothing is commanded before a person arms"
    graph.arm()
    is_done_again(graph, episode_id)


def test_safety_monitor_killed_stops_the_arm_and_its_successor_starts_nothing(graph: GraphRun) -> None:
    running(graph)
    old = graph.kill("safety_monitor")
    graph.until(lambda: fault(graph, "safety_monitor"), "fault safety_monitor", START_S)
    graph.restarted("safety_monitor", old)
    graph.until(lambda: graph.status("robot").needs_rearm, "the arm's own hold", START_S)
    graph.until(lambda: "safety_monitor" in graph.status("session").waiting_for, "a session that waits", START_S)
    assert fault(graph, "safety_monitor") and graph.status("robot").needs_rearm, "nothing re-arms itself"
    graph.arm()
    goes_on(graph)


def test_arbiter_killed_robot_holds_until_re_armed(graph: GraphRun) -> None:
    episode_id, boot = running(graph), graph.status("arbiter").boot_id
    graph.kill("arbiter_node")
    graph.until(lambda: graph.status("robot").needs_rearm and graph.status("robot").holding, "the arm's own hold")
    graph.until(lambda: graph.status("arbiter").boot_id != boot, "the restarted arbiter", START_S)
    assert not graph.status("arbiter").armed, "nothing re-arms itself"
    graph.until(lambda: result_of(graph, episode_id), "the end of the episode", START_S)
    assert graph.status("robot").needs_rearm and not graph.status("arbiter").armed, "nothing re-arms itself"
    graph.arm()
    is_done_again(graph, episode_id)


def test_session_killed_goes_on_from_its_ledger(graph: GraphRun) -> None:
    running(graph)
    before, boot = graph.results(), graph.status("session").boot_id
    graph.kill("session_node")
    graph.until(lambda: graph.status("session").boot_id != boot, "the restarted session", START_S)
    goes_on(graph)
    after = graph.results()
    assert after[: len(before)] == before
    assert all(result.valid for result in after[len(before) :]), "nothing begins before all who take part are there"
    counted = [result.index for result in after if result.valid]
    assert counted == list(range(len(counted))), "no number is left out or done twice"


def test_session_killed_while_disarmed_does_not_arm_again(graph: GraphRun) -> None:
    """`arm_at_start` is true in this graph: it holds for the start of the graph, not of the session."""
    episode_id, boot = running(graph), graph.status("session").boot_id
    graph.disarm()
    graph.until(lambda: result_of(graph, episode_id), "the end of the episode", START_S)
    graph.kill("session_node")

    def asks_for_a_person() -> bool:
        status = graph.status("session")
        return status.boot_id != boot and "not armed" in status.waiting_for

    graph.until(asks_for_a_person, "the restarted session to ask for a person", START_S)
    assert not graph.status("arbiter").armed, "nothing re-arms itself"
    graph.arm()
    is_done_again(graph, episode_id)


@pytest.mark.parametrize("name", ["store_node", "teleop_node", "lifecycle_manager"])
def test_others_killed_disturb_nobody(graph: GraphRun, name: str) -> None:
    boot = graph.status("arbiter").boot_id
    old = graph.kill(name)
    graph.restarted(name, old)
    goes_on(graph)
    assert graph.status("arbiter").boot_id == boot
    assert graph.status("arbiter").armed and not graph.status("arbiter").faults


def test_afterwards_every_step_is_on_disk_exactly_once(graph: GraphRun) -> None:
    goes_on(graph)
    counted = {result.episode_id for result in graph.results() if result.valid}
    graph.until(lambda: counted <= set(ingested(graph)), "the learner to pull the rest", START_S)
    assert graph.stop() == 130, "Ctrl-C before the plan was done"
    results = graph.results()
    assert len(results) == len({result.episode_id for result in results}), "an episode is in the ledger twice"
    episodes = graph.episodes()
    by_id = {episode.episode_id: episode for episode in episodes}
    assert len(episodes) == len(by_id), "an episode is in the store twice"
    for result in results:
        if result.valid:
            assert by_id[result.episode_id].complete
            assert by_id[result.episode_id].steps == result.steps
    learned = ingested(graph)
    assert len(learned) == len(set(learned)), "the learner learned an episode twice"
    assert set(learned) <= set(by_id)


def ingested(graph: GraphRun) -> list[str]:
    lines = (graph.paths.learner / "ingest.jsonl").read_text().splitlines()
    return [json.loads(line)["episode_id"] for line in lines]
