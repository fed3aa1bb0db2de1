"""Pins: kill -9 of each node while fine-tuning does what the failure table says; no step is lost or doubled.

One graph lives through all of it, in the order of the tests; the last test counts what is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from inril_msgs.msg import ArbiterStatus, ExecutedAction, RecorderStatus

from inril_core.data.store import EpisodeStore
from tests.graph.conftest import Start
from tests.graph.harness import START_S, GraphRun

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def graph(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRun]:
    run_dir = tmp_path_factory.mktemp("kills") / "run"
    plan = "train:1000000:steps"
    with GraphRun("finetune", run_dir, plan=plan, real_time_factor=1.0, **start.arguments()) as graph:
        graph.until(lambda: graph.status("session") is not None and graph.running_step(3)(), "first episode", START_S)
        yield graph


def valid_results(graph: GraphRun) -> int:
    return sum(result.valid for result in graph.results())


def goes_on(graph: GraphRun) -> None:
    """A further episode is run to its end and counted."""
    before = valid_results(graph)
    graph.until(lambda: valid_results(graph) > before, "a further valid episode", 90.0)


def fault(graph: GraphRun, name: str) -> bool:
    status: ArbiterStatus | None = graph.status("arbiter")
    return status is not None and any(name in latched for latched in status.faults)


def test_policy_killed_means_hold_and_restart_resumes_the_active_pack(graph: GraphRun) -> None:
    goes_on(graph)
    active = graph.until(lambda: (s := graph.status("policy")) and s.active_n >= 0 and s, "an active policy")
    version = (active.active_run_id, active.active_n)
    graph.until(graph.running_step(2), "a running episode")
    old = graph.kill("policy_node")
    graph.until(lambda: fault(graph, "policy_action_stale"), "fault policy_action_stale")
    assert graph.status("arbiter").in_control == ExecutedAction.SOURCE_HOLD
    graph.restarted("policy_node", old)
    graph.until(lambda: graph.status("policy").boot_id != active.boot_id, "the restarted policy", START_S)
    resumed = graph.status("policy")
    assert (resumed.active_run_id, resumed.active_n) >= version
    assert fault(graph, "policy_action_stale"), "a fault must not clear by itself"
    graph.arm()
    goes_on(graph)


def test_learner_killed_robot_goes_on_and_the_learner_catches_up(graph: GraphRun) -> None:
    boot = graph.until(lambda: (s := graph.status("learner")) and s.boot_id, "learner status", START_S)
    graph.kill("learner_node")
    goes_on(graph)
    graph.until(lambda: graph.status("learner").boot_id != boot, "the restarted learner", START_S)

    def caught_up() -> bool:
        status = graph.status("learner")
        recorded = sum(result.steps for result in graph.results() if result.valid)
        return status.boot_id != boot and status.ingested_steps >= recorded

    graph.until(caught_up, "the learner to pull what it lacks", 90.0)


def test_recorder_killed_ends_the_episode_and_what_was_written_is_kept(graph: GraphRun) -> None:
    graph.until(graph.running_step(5), "a running episode")
    status: RecorderStatus = graph.status("recorder")
    episode_id, on_disk, boot = status.episode_id, status.last_step_on_disk, status.boot_id
    graph.kill("recorder_node")
    graph.until(lambda: any(r.episode_id == episode_id for r in graph.results()), "the end of the episode")
    assert not next(r for r in graph.results() if r.episode_id == episode_id).valid
    graph.until(lambda: graph.status("recorder").boot_id != boot, "the restarted recorder", START_S)
    graph.arm()
    goes_on(graph)
    recovered = next(episode for episode in graph.episodes() if episode.episode_id == episode_id)
    assert not recovered.complete
    assert recovered.steps >= on_disk + 1


def test_observation_node_killed_means_hold(graph: GraphRun) -> None:
    graph.until(graph.running_step(3), "a running episode")
    old = graph.kill("observation_node")
    graph.until(lambda: fault(graph, "observation_stale"), "fault observation_stale")
    graph.restarted("observation_node", old)
    graph.arm()
    goes_on(graph)


def test_robot_killed_needs_a_person_and_fresh_state(graph: GraphRun) -> None:
    graph.until(graph.running_step(3), "a running episode")
    old = graph.kill("sim_cell")
    graph.until(lambda: graph.status("arbiter").faults, "a fault")
    graph.restarted("sim_cell", old)
    assert graph.status("arbiter").faults, "nothing re-arms itself"
    graph.arm()
    goes_on(graph)


def test_arbiter_killed_robot_holds_until_re_armed(graph: GraphRun) -> None:
    graph.until(graph.running_step(3), "a running episode")
    boot = graph.status("arbiter").boot_id
    graph.kill("arbiter_node")
    graph.until(lambda: graph.status("arbiter").boot_id != boot, "the restarted arbiter", START_S)
    assert not graph.status("arbiter").armed, "nothing re-arms itself"
    graph.arm()
    goes_on(graph)


def test_session_killed_goes_on_from_its_ledger(graph: GraphRun) -> None:
    graph.until(graph.running_step(3), "a running episode")
    before = len(graph.results())
    boot = graph.status("session").boot_id
    graph.kill("session_node")
    graph.until(lambda: graph.status("session").boot_id != boot, "the restarted session", START_S)
    goes_on(graph)
    assert len(graph.results()) > before


@pytest.mark.parametrize("name", ["store_node", "teleop_node", "lifecycle_manager"])
def test_others_killed_disturb_nobody(graph: GraphRun, name: str) -> None:
    armed = graph.status("arbiter").boot_id
    old = graph.kill(name)
    graph.restarted(name, old)
    goes_on(graph)
    assert graph.status("arbiter").boot_id == armed
    assert graph.status("arbiter").armed and not graph.status("arbiter").faults


def test_afterwards_every_step_is_on_disk_exactly_once(graph: GraphRun) -> None:
    goes_on(graph)
    results = {result.episode_id: result for result in graph.results()}

    def all_ingested() -> bool:
        store = EpisodeStore(graph.paths.episodes)
        return graph.status("learner").ingested_episodes >= len({e.episode_id for e in store.entries()}) - 1

    graph.until(all_ingested, "the learner to pull the rest", 60.0)
    assert graph.stop() == 0
    episodes = graph.episodes()
    ids = [episode.episode_id for episode in episodes]
    assert len(ids) == len(set(ids)), "an episode is in the store twice"
    by_id = {episode.episode_id: episode for episode in episodes}
    for result in results.values():
        if result.valid:
            assert by_id[result.episode_id].complete
            assert by_id[result.episode_id].steps == result.steps
    ingested = [json.loads(line)["episode_id"] for line in ingest_log(graph.paths.learner)]
    assert len(ingested) == len(set(ingested)), "the learner learned an episode twice"
    assert set(ingested) <= set(ids)


def ingest_log(learner: Path) -> list[str]:
    return (learner / "ingest.jsonl").read_text().splitlines()
