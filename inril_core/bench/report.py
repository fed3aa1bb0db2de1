"""The page of an experiment, in Markdown, from its lines alone."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inril_core.bench import collapse, glossary, measures, plots, statistics, versus
from inril_core.bench.experiment import Experiment
from inril_core.bench.job import Line
from inril_core.bench.plots import Groups
from inril_core.bench.runner import State
from inril_core.bench.versus import interval
from inril_core.evaluation.intervals import success_rate
from inril_core.finetune.learner import STEPS_TAKEN


def write_report(experiment: Experiment, state: State, folder: Path, command: str) -> list[Path]:
    """Write ``name.md`` and its pictures into ``folder``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    text = [f"# {experiment.title or experiment.name}", ""]
    if experiment.about:
        text += [experiment.about.strip(), ""]
    text += [*_how(experiment, state), ""]
    for task in experiment.tasks:
        groups = {
            m: [line for line in state.lines if (line["task"], line["method"]) == (task, m)] for m in experiment.methods
        }
        groups = {method: lines for method, lines in groups.items() if lines}
        if len(experiment.tasks) > 1:
            text += [f"## {task}", ""]
        if not groups:
            text += ["No run is finished yet.", ""]
            continue
        stem = experiment.name if len(experiment.tasks) == 1 else f"{experiment.name}_{_slug(task)}"
        section, made = _task(experiment, groups, folder, stem)
        text, files = [*text, *section], [*files, *made]
    if len(experiment.tasks) > 1:
        text += _overall(experiment, state.lines)
    text += [*_not_there(state), "## What the columns mean", "", glossary.COLUMNS, *_origin(experiment, state, command)]
    page = folder / f"{experiment.name}.md"
    page.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    return [page, *files]


def _how(experiment: Experiment, state: State) -> list[str]:
    total = len(state.lines) + len(state.failed) + len(state.missing)
    planned = len(experiment.seeds)
    done = [
        sum((line["task"], line["method"]) == (task, method) for line in state.lines)
        for task in experiment.tasks
        for method in experiment.methods
    ]
    seeds = f"{planned} seed{'s' * (planned != 1)} per method"
    if min(done) < planned:
        seeds += f" planned, {_from_to(min(done), max(done))} done"
    few = (
        ""
        if min(done) >= statistics.MIN_SEEDS
        else f" With fewer than {statistics.MIN_SEEDS} no difference is concluded and no interval given."
    )
    text = (
        f"{len(state.lines)} of {total} runs are finished"
        + (f", {len(state.failed)} failed" if state.failed else "")
        + f": {seeds}. Each seed draws its own demonstrations, networks and training starts, the same for every "
        f"method.{few} Before and after: acting without exploration on starts that no other part of the run uses. The "
        "weights are the last ones, none are selected."
    )
    return [text]


def _from_to(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _task(experiment: Experiment, groups: Groups, folder: Path, stem: str) -> tuple[list[str], list[Path]]:
    colour = plots.colours(list(experiment.methods))
    pictures = {name: folder / f"{stem}_{name}.png" for name in ("curves", "results", "cosines")}
    plots.learning_curves(groups, experiment.baseline, colour, pictures["curves"])
    plots.results(groups, colour, pictures["results"])
    if not plots.cosines(groups, colour, pictures["cosines"]):
        del pictures["cosines"]
    text = [_shared(groups), "", *_result_table(groups), "", f"![results]({pictures['results'].name})", ""]
    text += [f"![learning curves]({pictures['curves'].name})", "", glossary.CURVES, ""]
    text += ["### On the way", "", *_way_table(groups), "", _chance(groups), ""]
    text += ["### Never far below the start", "", *_table(collapse.HEAD, collapse.rows(groups)), "", collapse.TEXT, ""]
    text += ["### What was really done", "", *_done_table(groups), ""]
    if experiment.baseline is not None and experiment.baseline in groups and len(groups) > 1:
        text += [f"### Against {experiment.baseline}", "", *_versus_table(groups, experiment.baseline), ""]
    if any("returns" in line for lines in groups.values() for line in lines):
        text += ["### Returns", "", *_return_table(groups), ""]
    if "cosines" in pictures:
        text += ["### Gradients", "", f"![cosines]({pictures['cosines'].name})", ""]
    return text, list(pictures.values())


def _shared(groups: Groups) -> str:
    """What all runs of a task have in common, and a warning where they have not."""
    first = next(iter(groups.values()))[0]
    budgets = {method: int(lines[0]["config"]["schedule"]["budget_steps"]) for method, lines in groups.items()}
    text = (
        f"{first['demos']} demonstrations a seed; {first['start_episodes']} evaluation episodes before and "
        f"{first['final_episodes']} after, {first['curve_settings'][0]} at each point of the learning curve. "
    )
    if len(set(budgets.values())) == 1:
        text += f"{budgets[first['method']]} environment steps"
    else:
        text += "**Not the same number of environment steps**: " + ", ".join(f"{m} {n}" for m, n in budgets.items())
    return text + "."


def _result_table(groups: Groups) -> list[str]:
    starts = _starts(groups)
    several = len(set(starts.values())) > 1
    head = ["method", "seeds", *(["start"] if several else []), "cloned, %", "fine-tuned, %", "all episodes, %"]
    rows = []
    for method, lines in groups.items():
        first = statistics.iqm([100 * measures.start_rate(line) for line in lines])
        final = statistics.iqm([100 * measures.final_rate(line) for line in lines])
        pooled = success_rate(sum(r["final_successes"] for r in lines), sum(r["final_episodes"] for r in lines))
        rows.append(
            [
                method,
                str(len(lines)),
                *([starts[method]] if several else []),
                f"{first.value:.1f}",
                interval(final, 1),
                f"{100 * pooled.rate:.1f} [{100 * pooled.low:.1f}, {100 * pooled.high:.1f}]",
                ", ".join(_before_after(line) for line in lines),
                f"{np.mean([line['fine_tune_s'] for line in lines]) / 60:.1f}",
                _mean_or_dash([line["updates_per_s"] for line in lines]),
            ]
        )
    table = _table([*head, "per seed, before → after", "minutes", "updates/s"], rows)
    if several:
        table += ["", "Start: methods with the same letter begin from the same cloned weights, seed for seed."]
    return table


def _before_after(line: Line) -> str:
    text = f"{100 * measures.start_rate(line):.0f} → {100 * measures.final_rate(line):.0f}"
    return text + (f" (stopped at {line['env_steps']} steps)" if line.get("capped") else "")


def _starts(groups: Groups) -> dict[str, str]:
    """A letter and the kind of policy per method; the same letter: the same start on every seed both have."""
    letters: dict[str, str] = {}
    leaders: list[str] = []
    for method, lines in groups.items():
        for leader in leaders:
            if _same_start(lines, groups[leader]):
                letters[method] = letters[leader]
                break
        else:
            leaders.append(method)
            letters[method] = (
                f"{chr(ord('a') + len(leaders) - 1)} ({lines[0]['config']['policy'].get('kind', 'gaussian')})"
            )
    return letters


def _same_start(a: Sequence[Line], b: Sequence[Line]) -> bool:
    others = {line["seed"]: line for line in b}
    for line in a:
        other = others.get(line["seed"])
        if any(line["config"][part] != b[0]["config"][part] for part in ("policy", "pretrain", "il")):
            return False
        if other is not None and None not in (line["start"], other["start"]) and line["start"] != other["start"]:
            return False
    return True


def _way_table(groups: Groups) -> list[str]:
    rows = []
    for method, lines in groups.items():
        drops = [100 * measures.worst_drop(line) for line in lines]
        after = [measures.drop_after_reaching(line) for line in lines]
        failures = [measures.failures_before_lasting(line) for line in lines]
        rows.append(
            [
                method,
                f"{max(drops):.0f} ({_listed(drops)})",
                _listed([100 * measures.worst_training_drop(line) for line in lines]),
                ", ".join("–" if drop is None else f"{100 * drop:.0f}" for drop in after),
                ", ".join(f"{'' if reached else '≥ '}{count}" for count, reached in failures),
                _steps(lines, 0.5, True),
                _steps(lines, 0.9, False),
                _steps(lines, 0.9, True),
            ]
        )
    return _table(
        [
            "method",
            "worst drop, points (per seed)",
            f"in {measures.TRAINING_WINDOW_EPISODES} training episodes in a row",
            "fall after 80 %",
            "failed episodes until 90 %",
            "thousand steps to 50 % for good",
            "to 90 % first",
            "to 90 % for good",
        ],
        rows,
    )


def _done_table(groups: Groups) -> list[str]:
    rows = []
    for method, lines in groups.items():
        taken = [line.get("steps_taken", {}) for line in lines]
        counted = [_listed([t.get(name, float("nan")) for t in taken]) for name in STEPS_TAKEN]
        rows.append([method, _listed([line["updates"] for line in lines]), *counted])
    return _table(["method", "updates due", "actor steps", "insertions of imitation", "IL steps"], rows)


def _steps(lines: Sequence[Line], rate: float, for_good: bool) -> str:
    found = [measures.steps_to(line, rate, for_good) for line in lines]
    listed = ", ".join(f"{s.steps / 1000:.1f}" if s.reached else "–" for s in found)
    if not all(s.reached for s in found):
        return listed
    return f"**{statistics.iqm([s.steps / 1000 for s in found]).value:.1f}** ({listed})"


def _chance(groups: Groups) -> str:
    lines = [line for group in groups.values() for line in group]
    rate = float(np.mean([measures.curve(line)[1][0] for line in lines]))
    points = int(np.median([len(line["curve"]) for line in lines]))
    episodes = lines[0]["curve_settings"][0]
    expected = 100 * measures.drop_by_chance(rate, episodes, points)
    return (
        f"A policy that never changed, with the {100 * rate:.0f} % of the curves' first points, would show a "
        f"worst drop of {expected:.0f} points on average, only because {episodes} episodes a point are few."
    )


def _versus_table(groups: Groups, baseline: str) -> list[str]:
    b = versus.runs(groups[baseline], baseline)
    rows = []
    for method, lines in groups.items():
        if method == baseline:
            continue
        names, a = (method, baseline), versus.runs(lines, method)
        findings = [
            versus.steps_ratio(names, a, b),
            versus.steps_ratio(names, a, b, for_good=False),
            versus.final_difference(names, a, b),
            versus.improvement(names, a, b),
            versus.drop_difference(names, a, b),
        ]
        rows.append([method, *(f"{interval(f.estimate)}{_verdict(f)}" for f in findings)])
    return _table(
        [
            "method",
            "steps to 90 % for good, ratio",
            "first",
            "final success, points more",
            "probability of ending higher",
            "points less drop",
        ],
        rows,
    )


def _verdict(finding: versus.Finding) -> str:
    if finding.estimate is None or finding.estimate.n < statistics.MIN_SEEDS:
        return ""
    return ": cannot tell" if finding.winner is None else f": **{finding.winner}**"


def _return_table(groups: Groups) -> list[str]:
    rows = []
    for method, lines in groups.items():
        having = [line["returns"] for line in lines if "returns" in line]
        if having:
            final = statistics.iqm([values["final"] for values in having])
            pairs = ", ".join(f"{values['start']:.1f} → {values['final']:.1f}" for values in having)
            rows.append([method, interval(final, 1), pairs])
    return _table(["method", "final return, mean of episodes", "per seed, before → after"], rows)


def _overall(experiment: Experiment, lines: Sequence[Line]) -> list[str]:
    """Over all tasks, for the methods that have every task and seed."""
    scores = {(line["method"], line["seed"], line["task"]): 100 * measures.final_rate(line) for line in lines}
    rows = []
    for method in experiment.methods:
        matrix = [[scores.get((method, seed, task)) for task in experiment.tasks] for seed in experiment.seeds]
        if all(score is not None for row in matrix for score in row):
            rows.append([method, interval(statistics.iqm(np.array(matrix, np.float64)), 1)])
    if not rows:
        return []
    return ["## All tasks", "", *_table(["method", "fine-tuned, %, over all tasks"], rows), ""]


def _not_there(state: State) -> list[str]:
    text = []
    if state.failed:
        rows = [[r["task"], r["method"], str(r["seed"]), f"FAILED: {str(r['error'])[:300]}"] for r in state.failed]
        text += ["## Failed runs", "", *_table(["task", "method", "seed", "error"], rows), ""]
    if state.missing:
        runs: dict[str, list[str]] = {}
        for job in state.missing:
            runs.setdefault(f"{job.task} {job.method}", []).append(str(job.seed))
        listed = "; ".join(f"{run} seed {', '.join(seeds)}" for run, seeds in runs.items())
        text += [f"Not run yet: {listed}.", ""]
    return text


def _origin(experiment: Experiment, state: State, command: str) -> list[str]:
    lines = [*state.lines, *state.failed]
    machines = sorted({_machine(line["machine"]) for line in lines if line["machine"]})
    codes = sorted({line["code"] for line in lines})
    text = f"Made by `{command}` on {'; '.join(machines) or 'no machine yet'}. Code: {', '.join(codes) or '-'}. "
    sources = ", ".join(f"`{name}.jsonl`" for name in (experiment.name, *experiment.also_read))
    return ["## Origin", "", f"{text}Every run with all its settings: {sources}."]


def _machine(facts: dict[str, object]) -> str:
    packages = ", ".join(f"{name} {facts[name]}" for name in ("torch", "numpy", "mujoco") if name in facts)
    return f"{facts['processor']} ({facts['cores']} cores, one thread a run), Python {facts['python']}, {packages}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, ["---"] * len(head), *rows)]


def _listed(values: Sequence[float]) -> str:
    return ", ".join("–" if value != value else f"{value:.0f}" for value in values)


def _mean_or_dash(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.0f}" if known else "–"


def _slug(task: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")
