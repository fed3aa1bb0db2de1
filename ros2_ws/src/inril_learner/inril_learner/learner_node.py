"""Pulls episodes, trains on them, pushes new weights while the robot works.

Over 400 lines: what comes in, when training goes on and when weights go out are read side by side; the learner decides.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
from inril_common.calls import Calls
from inril_common.diagnostics import ERROR, OK, Health
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import LATCHED
from inril_common.realtime import parse_cores
from inril_msgs.msg import EpisodeReady, LearnerStatus, PolicyStatus, PolicyWeights
from rclpy.clock import Clock, ClockType

from inril_core import distributed
from inril_core.blobs import BlobServer
from inril_core.blobs.pull import MAX_CLOCK_OFFSET_S
from inril_core.data import Episode, read_episode
from inril_core.data.container import EpisodeUnreadable
from inril_core.errors import ConfigError, InrilError
from inril_core.finetune import DEFAULT_PRESET
from inril_core.finetune.checkpoint import CHECKPOINT_NAME
from inril_core.finetune.config import load_config
from inril_core.finetune.demos import DemoWatch
from inril_core.finetune.distributed import follow
from inril_core.finetune.distributed.parallel import LeadingLearner, make_learner
from inril_core.finetune.guarded import GuardedLearner
from inril_core.finetune.learner import Learner
from inril_core.finetune.metrics import MetricsLog
from inril_core.finetune.people import PeopleCurve
from inril_core.finetune.rewards import classifier
from inril_core.finetune.shadow import ShadowGate
from inril_core.finetune.versions import VersionCounter
from inril_core.finetune.weights_loop import PolicyReport, WeightsLoop
from inril_core.networks.compute import use_kernel_threads, use_one_thread
from inril_core.policies import load_policy
from inril_core.policies.client import RemoteError
from inril_core.run import default_key_path, open_run
from inril_core.vocabulary import Purpose
from inril_core.weights import Offer, load_or_create_key, write_pack
from inril_learner.episode_pull import EpisodePull, said_of
from inril_learner.guarding import gate_of, guard_of

SLICE_S = 0.04  # longest training between two looks at the graph
TICK_S = 0.005
STATUS_PERIOD_S = 0.5
PUSH_RETRY_NS = 2_000_000_000
LOCKSTEP_THREADS = 2  # at most, of the kernels; a small network's update gains little by more
SERVED_N = 2  # packs; a policy may just be asking for the one before the newest
LOOK_PERIOD_S = 1.0  # the store is asked this often even if no announcement was heard


class LearnerNode(InrilPlainNode):
    """Publishes policy_weights and learner_status; serves the packs by a `BlobServer`.

    Training runs in the node's own thread, in slices between which it listens. It pushes every
    ``push_every_updates`` of the preset, and whenever it has caught up with the data, and hears on /policy_status what
    became of it. Under torchrun the first process
    is the node, and the others share its training.
    """

    def __init__(self) -> None:
        super().__init__("learner_node")
        self._learner: Learner | None = None
        self._gate: ShadowGate | None = None
        self._calls: Calls | None = None
        self._pull: EpisodePull | None = None
        self._metrics: MetricsLog | None = None
        self._checkpointed_updates: int | None = None

    def setup(self) -> None:
        """Load demonstrations and policy, resume if the run has a checkpoint, and begin."""
        use_one_thread()
        lockstep = self.param(
            "lockstep", False, "the graph waits between episodes until the updates that are due are made"
        )
        if not lockstep and os.nice(0) == 0:
            os.nice(5)
        if lockstep:
            use_kernel_threads(min(LOCKSTEP_THREADS, len(parse_cores(self.cores))))
        self.contract = self.contract_param()
        self._run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        self._folder = self._run.paths.learner
        self._learner = self._make_learner()
        tensorboard = self.param("tensorboard", True, "write TensorBoard scalars")
        self._people = PeopleCurve()
        rewards = self._learner.config.rewards
        self._drift = rewards.drift_watch() if isinstance(rewards, classifier.Config) else None
        self._metrics = MetricsLog(self._folder, self._learner.updates, tensorboard)
        self._key = load_or_create_key(default_key_path())
        self._versions = VersionCounter(self._folder / "version.json")
        self._loop = WeightsLoop(self._learner, self._run.run_id)
        host = self.param("blob_host", "127.0.0.1", "address at which weights are served, that the robot reaches")
        self._blobs = BlobServer(self._key, host)
        self._served: deque[tuple[bytes, Path]] = deque()
        self._push_not_before_ns = 0
        self._withdraw_pushed()
        self._guard = guard_of(self._learner, self.contract, self._folder)
        self._gate = gate_of(self._learner, self.contract, self._folder)
        # what was pushed before a restart may not have arrived: push again once caught up
        pinned = self._guard is not None and self._guard.pinned
        self._pushed_updates = -self._learner.config.push_every_updates if pinned else 0
        self._checkpointed_updates = self._learner.updates
        self._newest_stamp_ns = 0
        self._busy_s, self._busy_updates, self._updates_per_s = 0.0, 0, 0.0
        self._refused: dict[str, tuple[int, str]] = {}  # episode_id to its steps, and to what was said of it
        self._next_status_ns = self._next_look_ns = 0
        self._status = self.create_publisher(LearnerStatus, "learner_status", LATCHED)
        self._weights = self.create_publisher(PolicyWeights, "policy_weights", LATCHED)
        self._calls = Calls(self)
        timeout_s = self.param("pull_timeout_s", 10.0, "s to wait for an answer of the store", 0.1, 60.0)
        self._pull = EpisodePull(
            self._calls, self._folder / "pulled", self._key, timeout_s, self._wanted, self._ingest, self._trouble
        )
        self.diagnose("clocks", self._clock_health)
        self.create_subscription(EpisodeReady, "episode_ready", self._announced, LATCHED)
        self.create_subscription(PolicyStatus, "policy_status", self._heard, LATCHED)
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _make_learner(self) -> Learner:
        preset = self.param("preset", DEFAULT_PRESET, "packaged fine-tuning preset, or path of a YAML file")
        seed = self.param("seed", 0, "seed of the training's own randomness", 0, 1_000_000)
        demos = self.param("demos", "", "run folder of the demonstrations")
        initial = self.param("initial_weights", "", "policy file to start from, see `inril pretrain`")
        for name, value in (("demos", demos), ("initial_weights", initial)):
            if not value:
                raise ConfigError(f"learner_node: parameter {name} is empty; give the path, see `inril pretrain`")
        policy, facts = load_policy(Path(initial))
        if facts.get("interface_digest") != self.contract.interface_digest:
            raise ConfigError(
                f"initial_weights = {initial}: made for another interface than contract {self.contract.task}; "
                "pre-train again under this contract"
            )
        config = load_config(preset).changed(seed=seed)
        if config.interventions is not None:
            raise ConfigError(
                f"config = {preset}: its interventions are a simulated intervener's, of in-process runs; here the "
                "teleop node's device takes over: leave the section out (il.method 'dagger' works in-process only)"
            )
        own = Path(demos).expanduser().resolve() == self._run.paths.root.resolve()
        self._demos = DemoWatch(Path(demos), self.contract, self.get_logger().warning, corrections=not own)
        learner = make_learner(config, self.contract, policy, self._demos.demos(), self._folder)
        if (self._folder / CHECKPOINT_NAME).exists():
            learner.resume()
            self.get_logger().info(f"resumed at {learner.updates} updates and {learner.ingested_episodes} episodes")
            if learner.added_demos:
                added = ", ".join(learner.added_demos)
                self.get_logger().warning(f"demonstrations that the run did not begin with are taken in: {added}")
        return learner

    def teardown(self) -> None:
        """Keep what was learned."""
        if self._calls is not None:
            self._calls.cancel()
        if self._pull is not None:
            self._pull.close()
        if self._gate is not None:
            self._gate.close()
        if self._checkpointed_updates is not None:
            self._learner.checkpoint()
        if isinstance(self._learner, LeadingLearner):
            self._learner.stop()
            distributed.stop()
        if self._metrics is not None:
            self._metrics.close()

    def _announced(self, _: EpisodeReady) -> None:
        self._pull.look()
        self._pull.step(self.mono_ns())

    def _wanted(self, ready: EpisodeReady) -> bool:
        said = said_of(ready).digest
        if self._learner.knows(ready.episode_id):
            known = self._learner.said(ready.episode_id) == said
        else:
            known = ready.left_out
        refused = self._refused.get(ready.episode_id, (0, ""))[1] == said
        return ready.purpose == Purpose.TRAIN and not known and not refused

    def _ingest(self, path: Path, ready: EpisodeReady) -> bool:
        try:
            episode = self._read(path, ready)
            if self._learner.knows(ready.episode_id):
                if self._learner.revise(episode):
                    self.get_logger().info(f"episode {ready.episode_id}: what was said of it since is taken in")
            else:
                self._learner.ingest(episode)
                self._people.saw(episode)
                self._newest_stamp_ns = int(episode.stamps_ns[-1])
            self._refused.pop(ready.episode_id, None)
            drift = "" if self._drift is None else self._drift.saw(episode)
            if drift:
                self.get_logger().error(f"the success classifier does not agree with people's labels: {drift}")
        except (RemoteError, OSError) as error:
            # the base's server may be starting again, or a disk be full: the episode stays wanted
            self._trouble(f"episode {ready.episode_id}: {error}")
            return False
        except (EpisodeUnreadable, ConfigError) as error:
            # one bad recording must not end the run: it is named, left out, and kept in the store
            known = self._learner.knows(ready.episode_id)
            self._refused[ready.episode_id] = (0 if known else ready.steps, said_of(ready).digest)
            what = "what was said of it is not taken in" if known else "is not learned from"
            self.get_logger().error(f"episode {ready.episode_id} {what}: {error}")
        finally:
            path.unlink(missing_ok=True)
        self._publish_status()
        return True

    def _read(self, path: Path, ready: EpisodeReady) -> Episode:
        try:
            return said_of(ready).on(read_episode(path, images=bool(self.contract.image_shapes)))
        except (InrilError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever a damaged recording leads to
            raise EpisodeUnreadable(f"{type(error).__name__}: {error}") from error

    def _heard(self, status: PolicyStatus) -> None:
        """See `WeightsLoop`."""
        report = PolicyReport(
            status.active_run_id,
            status.active_n,
            status.pending_n,
            status.highest_n,
            status.last_rejected_n,
            status.last_rejection,
        )
        acted = self._learner.version
        news = self._loop.heard(report)
        if self._learner.version != acted:  # what it is now has been published before
            self._pushed_updates = self._learner.updates
        if news:
            self.get_logger().warning(news)
            self._publish_status()

    def _trouble(self, reason: str) -> None:
        self.get_logger().warning(f"{reason}; trying again", throttle_duration_sec=5.0)

    def _clock_health(self) -> Health:
        clock = self._pull.clock
        if clock is None:
            return Health(OK, "nothing was pulled yet", {})
        values = {"robot ahead by, s": f"{clock.offset_s:.4f}", "to within, s": f"{clock.error_s:.4f}"}
        if clock.least_s > MAX_CLOCK_OFFSET_S:
            return Health(ERROR, "the robot's host has another time; synchronise both hosts by NTP (chrony)", values)
        return Health(OK, "ok", values)

    def _tick(self) -> None:
        now_ns = self.mono_ns()
        self._calls.poll(now_ns)
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + round(LOOK_PERIOD_S * 1e9)
            self._pull.look()
            self._look_at_demos()
        self._pull.step(now_ns)
        trained = self._slice()
        schedule = self._learner.config.schedule
        if trained and self._learner.updates > schedule.critic_warmup_updates and self._learner.waits_for_reward:
            self.get_logger().warning(
                f"the policy is not trained yet: {self._learner.informative_steps} steps that tell good from bad were "
                f"seen, schedule.rewards_before_actor = {schedule.rewards_before_actor}; help it succeed, explore less "
                "(policy.log_std_init), or show the critics demonstrations (rl.demo_share)",
                throttle_duration_sec=30.0,
            )
        if trained or now_ns >= self._next_status_ns:
            self._publish_status()

    def _look_at_demos(self) -> None:
        """Take in what was said of demonstrations since."""
        try:
            for demo in self._demos.revised():
                if self._learner.revise(demo):
                    self.get_logger().info(f"demonstration {demo.episode_id}: what was said of it since is taken in")
        except InrilError as error:
            self.get_logger().error(f"what was said of a demonstration is not taken in: {error}")
        except OSError as error:
            self._demos.again()
            self._trouble(f"{error}")

    def _slice(self) -> bool:
        """Train, or run the trials of guard or gate; True if anything changed."""
        if self._guard is not None:
            return self._guarded_slice(self._guard)
        return self._train_slice() if self._gate is None else self._gated_slice(self._gate)

    def _train_slice(self) -> bool:
        """Train for SLICE_S at most; push and checkpoint where due. True if anything changed."""
        learner = self._learner
        before, began_s = learner.updates, time.monotonic()
        while learner.updates < learner.updates_due and time.monotonic() - began_s < SLICE_S:
            metrics = learner.train_step()
            self._busy_updates += 1
            if metrics is not None:
                self._write_metrics(metrics, time.monotonic() - began_s)
                began_s = time.monotonic()
            if self._push_due():
                break
        if learner.updates > before:
            self._busy_s += time.monotonic() - began_s
        pushed = self._push_due()
        if pushed and self._gate is not None:
            self._gate.begin()
        elif pushed:
            self._push()
        if learner.updates - self._checkpointed_updates >= learner.config.checkpoint_every_updates:
            self._checkpointed_updates = learner.updates
            learner.checkpoint()
        return pushed or learner.updates > before

    def _guarded_slice(self, guard: GuardedLearner) -> bool:
        """As `_train_slice`; while a check of the peak guard goes on, one trial of it instead."""
        learner = self._learner
        if self._pushed_updates < 0:  # the best version acts again before anything is trained
            due = self._push_due()
            if due:
                self._push()
            return due
        if guard.due and self._pushed_updates == learner.updates and learner.version not in self._loop.refused:
            guard.begin()
            return True
        if guard.checking:
            check = guard.step()
            if check is not None and check.verdict.best_acts:
                self.get_logger().warning(guard.news)
                learner.checkpoint()
                if learner.actor_updates:
                    self._pushed_updates = -learner.config.push_every_updates
            return True
        return False if guard.pinned else self._train_slice()

    def _gated_slice(self, gate: ShadowGate) -> bool:
        """As `_train_slice`; nothing is trained while the gate judges a version or one that passed waits to go out."""
        if gate.running:
            judged = gate.poll()
            if judged is None:
                return False
            if not gate.cleared:
                self.get_logger().warning(gate.describe())
                if self._learner.on_policy:
                    self._learner.go_on_from(self._learner.version)
            return True
        if not gate.cleared:
            return self._train_slice()
        if self.mono_ns() < self._push_not_before_ns:
            return False
        self._push()
        return True

    def _push_due(self) -> bool:
        """Whether the policy has changed since the last push, for long enough or as far as the data goes; with a gate,
        whether it is the next to be judged."""
        if self._gate is not None:
            return self._gate.due
        learner = self._learner
        if learner.actor_updates == 0 or learner.updates == self._pushed_updates or not learner.may_publish:
            return False
        if self.mono_ns() < self._push_not_before_ns:
            return False
        overdue = learner.updates - self._pushed_updates >= learner.config.push_every_updates
        return overdue or learner.updates >= learner.updates_due

    def _write_metrics(self, metrics: dict[str, float], running_s: float) -> None:
        self._updates_per_s = self._busy_updates / max(self._busy_s + running_s, 1e-9)
        self._busy_s, self._busy_updates = 0.0, 0
        age_s = (self.ros_ns() - self._newest_stamp_ns) * 1e-9 if self._newest_stamp_ns else math.nan
        facts = {
            "ingested_steps": self._learner.ingested_steps,
            "rejected_steps": self._learner.rejected_steps,
            "ingested_episodes": self._learner.ingested_episodes,
            "time_unix_s": time.time(),
            "updates_per_s": self._updates_per_s,
            "data_age_s": age_s,
            "published_n": self._versions.newest,
            "refused_versions": len(self._loop.refused),
            **({} if self._gate is None else {"held_back_versions": self._gate.held_back_n}),
            **self._people.facts(),
        }
        self._metrics.write(self._learner.updates, facts, metrics)

    def _push(self) -> None:
        learner = self._learner
        parent = self._versions.newest
        n = self._versions.take()
        manifest = {
            "run_id": self._run.run_id,
            "n": n,
            "parent": parent,
            "interface_digest": self.contract.interface_digest,
            "contract_text": self.contract.text,
            "policy": learner.policy.manifest(),
            "created_ns": self.ros_ns(),
            "updates": learner.updates,
        }
        path = self._folder / f"push-{n:08d}.pack"
        try:
            size, digest = write_pack(path, learner.policy_state(), manifest)
        except OSError as error:
            self._push_not_before_ns = self.mono_ns() + PUSH_RETRY_NS
            self._trouble(f"version {n} is not pushed: {path}: {error.strerror}; free some space")
            return
        offer = Offer.signed(self._key, self._run.run_id, n, size, digest)
        message = PolicyWeights(
            run_id=offer.run_id,
            n=offer.n,
            size_bytes=offer.size_bytes,
            digest=np.frombuffer(offer.digest, np.uint8),
            mac=np.frombuffer(offer.mac, np.uint8),
            address=self._blobs.address,
        )
        self._blobs.put(digest, path)
        message.header.stamp = self.get_clock().now().to_msg()
        self._weights.publish(message)
        self._served.append((digest, path))
        self._withdraw_pushed()
        self._pushed_updates = learner.updates
        if self._gate is not None:
            self._gate.offered()
        learner.published(n)
        self._loop.pushed(n)

    def _withdraw_pushed(self) -> None:
        """Serve the newest packs alone; who is getting an older one gets it to its end."""
        while len(self._served) > SERVED_N:
            digest, _ = self._served.popleft()
            self._blobs.remove(digest)
        served = {path for _, path in self._served}
        for old in set(self._folder.glob("push-*.pack")) - served:
            old.unlink(missing_ok=True)

    def _state(self) -> tuple[str, str]:
        learner, schedule, guard = self._learner, self._learner.config.schedule, self._guard
        if guard is not None and (guard.checking or guard.pinned):
            return ("checking" if guard.checking else "done"), guard.describe()
        if self._gate is not None and self._gate.running:
            return "checking", self._gate.describe()
        if learner.updates < learner.updates_due:
            return "training", "" if guard is None else guard.describe()
        if learner.done:
            return "done", f"the budget of {schedule.budget_steps} steps is spent"
        if learner.ingested_steps < schedule.warmup_steps:
            return "waiting", f"{learner.ingested_steps} of {schedule.warmup_steps} warm-up steps"
        return "waiting", "for the next episode"

    def _publish_status(self) -> None:
        self._next_status_ns = self.mono_ns() + round(STATUS_PERIOD_S * 1e9)
        state, reason = self._state()
        learner, guard = self._learner, self._guard
        guarded = "" if guard is None or state in ("checking", "training") or guard.pinned else guard.describe()
        gated = "" if self._gate is None or self._gate.running else self._gate.describe()
        reason = "; ".join(filter(None, (reason, guarded, gated, self._loop.problem)))
        pinned = guard is not None and guard.pinned
        status = LearnerStatus(
            boot_id=self.boot_id,
            run_id=self._run.run_id,
            state=state,
            reason=reason,
            updates=learner.updates,
            ingested_steps=learner.ingested_steps,
            ingested_episodes=learner.ingested_episodes,
            refused_steps=sum(steps for steps, _ in self._refused.values()),
            target_updates=float(learner.updates if pinned else learner.updates_due),
            published_n=self._versions.newest if self._versions.newest else -1,
            updates_per_s=self._updates_per_s,
            gradient_cosine=learner.last_metrics.get("gradient_cosine", math.nan),
        )
        status.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(status)


def main() -> None:
    """Entry point; under torchrun all processes but the first only follow."""
    if distributed.in_torchrun() and os.environ.get("RANK", "0") != "0":
        sys.exit(follow.main())
    run_node(LearnerNode)


if __name__ == "__main__":
    main()
