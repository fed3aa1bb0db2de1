"""`inril classifier`: train a success classifier on labelled episodes, and compare it with people's labels."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inril_core.errors import ConfigError
from inril_core.files import check_writable
from inril_core.vocabulary import outcome_word

SUMMARY = "tell success from what the robot observes: train on labelled episodes, check against people's labels"
EXAMPLES = (
    "train runs/labelled --images front --out success.safetensors",
    "train runs/monday runs/tuesday --images front wrist --precision 0.8 --out success.safetensors",
    "check runs/mine --classifier success.safetensors --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril classifier`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    train = actions.add_parser("train", help="train one, and choose its threshold on episodes that it did not see")
    train.set_defaults(do=_train)
    train.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders with labelled episodes")
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    train.add_argument("--images", nargs="*", default=[], metavar="NAME", help="images of the contract to look at")
    train.add_argument("--state", action="store_true", help="look at the contract's state vector, too")
    train.add_argument("--precision", type=float, default=0.9, help="stated precision (default: %(default)s)")
    train.add_argument("--confidence", type=float, default=0.95, help="of its bound (default: %(default)s)")
    train.add_argument("--held-out", type=float, default=0.5, help="share that chooses it (default: %(default)s)")
    train.add_argument(
        "--gap-s", type=float, default=0.5, metavar="S", help="so long before its end a success is none yet (0.5)"
    )
    train.add_argument("--updates", type=int, default=1500, help="of training (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    train.add_argument("--any-label", action="store_true", help="take the machine's labels, too (a simulated cell)")
    check = actions.add_parser("check", help="compare it with what people said of a run's episodes; exit 1: drift")
    check.set_defaults(do=_check)
    check.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders with labelled episodes")
    check.add_argument("--classifier", type=Path, required=True, metavar="FILE", help="of `inril classifier train`")
    for action in (train, check):
        action.add_argument("--json", action="store_true", help="JSON instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    return int(arguments.do(arguments))


def _train(arguments: argparse.Namespace) -> int:
    from inril_core.classifier.examples import View
    from inril_core.classifier.training import TrainingSettings, train
    from inril_core.contract import ImageShape, contract_from_text
    from inril_core.networks.compute import use_one_thread

    use_one_thread()
    settings = TrainingSettings(
        precision=arguments.precision,
        confidence=arguments.confidence,
        held_out=arguments.held_out,
        gap_s=arguments.gap_s,
        updates=arguments.updates,
        seed=arguments.seed,
        any_label=arguments.any_label,
    )
    if not arguments.images and not arguments.state:
        raise ConfigError("give --images NAME, or --state: there is nothing to look at")
    check_writable(arguments.out)
    episodes = list(_episodes(arguments.runs, bool(arguments.images)))
    shapes = {}
    if episodes:
        images = contract_from_text(episodes[0].contract_text).images
        shapes = {image.name: ImageShape(image.name, image.height_px, image.width_px) for image in images}
    unknown = [name for name in arguments.images if name not in shapes]
    if unknown:
        raise ConfigError(f"--images {unknown}: the episodes' contract has {sorted(shapes) or 'none'}")
    view = View(arguments.state, tuple(shapes[name] for name in arguments.images))
    made = train(episodes, view, settings, None if arguments.json else _progress(settings.updates))
    out = arguments.out.expanduser().absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)
    except OSError as error:
        raise ConfigError(f"--out = {out}: {error.strerror}; give a path that you may write to") from error
    chosen, sha256 = made.threshold, hashlib.sha256(out.read_bytes()).hexdigest()
    if arguments.json:
        print(json.dumps({"file": str(out), "sha256": sha256, "threshold": asdict(chosen)}))
        return 0
    print(f"wrote {out} (sha256 {sha256})")
    print(
        f"threshold {chosen.score:g}: right in {chosen.right_n} of {chosen.fired_n} held-out episodes that it called a "
        f"success, {chosen.right_n} of {chosen.successes_n} successes found; precision at least "
        f"{chosen.precision_low:.3f} with confidence {chosen.confidence:g}"
    )
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from inril_core.classifier.agreement import Agreement
    from inril_core.classifier.model import load_classifier
    from inril_core.networks.compute import use_one_thread

    use_one_thread()
    classifier, agreement = load_classifier(arguments.classifier), Agreement()
    suggestions: dict[str, dict[str, Any]] = {}
    for episode in _episodes(arguments.runs, bool(classifier.view.images)):
        agreement.saw(classifier, episode)
        scores, progress = classifier.judged(episode)
        suggestions[episode.episode_id] = {
            "says_success": classifier.says_success(episode),
            "score": float(scores[-1]),
            "progress": float(progress[-1]),
            "label": episode.success,
            "by": episode.outcome_source,
        }
    drift = agreement.drift(classifier.threshold)
    precision, recall = agreement.precision(), agreement.recall()
    if arguments.json:
        facts = {**asdict(agreement), "precision_95": precision, "recall_95": recall, "drift": drift}
        print(json.dumps({**facts, "episodes": suggestions}))
        return bool(drift)
    for name, said in suggestions.items():
        word = outcome_word(said["label"])
        print(
            f"{name}: {'success' if said['says_success'] else 'no success'} (score {said['score']:.3f}, progress "
            f"{said['progress']:.2f}); {said['by'] or 'nobody'} said {word}"
        )
    told = [f"{agreement.episodes_n} episodes labelled by people"]
    for name, interval, right, count in (
        ("precision", precision, agreement.right_n, agreement.fired_n),
        ("recall", recall, agreement.right_n, agreement.successes_n),
    ):
        if interval is not None:
            told.append(f"{name} {right}/{count}, 95 % interval {interval.low:.3f} to {interval.high:.3f}")
    print("; ".join(told))
    print(f"DRIFT: {drift}" if drift else "the labels do not speak against the classifier")
    return bool(drift)


def _episodes(runs: list[Path], images: bool) -> Iterator[Any]:
    from inril_core.data.manage import open_run_index
    from inril_core.data.select import Selection, selected

    for folder in runs:
        for _, episode in selected(open_run_index(folder), Selection(), images=images):
            yield episode


def _progress(updates: int) -> Any:
    def told(update: int, loss: float) -> None:
        if (update + 1) % 500 == 0:
            print(f"classifier: update {update + 1} of {updates}, loss {loss:.4f}", flush=True)

    return told
