"""The actions of `inril data` that make something new of episodes: export, import, merge, filter, view."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from inril_bringup.data_selection import add_conditions, progress, selection_of
from inril_core.errors import ConfigError

EXPORTS = ("lerobot", "hdf5", "parquet")
IMPORTS = ("lerobot", "hdf5", "parquet", "furniture", "rosbag")


def add_arguments(actions: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """The arguments of these actions. add: makes the parser of one."""
    export = add("export", _export, "write episodes as LeRobotDataset v3, robomimic HDF5 or plain Parquet")
    export.add_argument("out", type=Path, metavar="OUT", help="new folder, or new .hdf5 file")
    export.add_argument("--format", choices=EXPORTS, required=True)
    export.add_argument("--no-images", action="store_true", help="leave images out")
    export.add_argument(
        "--frames", choices=("video", "png"), default="video", help="lerobot: H.264 (small, lossy) or PNG (exact)"
    )
    _add_force(export)
    add_conditions(export)

    imports = add("import", _import, "make a run folder of episodes of other projects, by a mapping", run_dir=False)
    imports.add_argument("source", type=Path, metavar="SOURCE", help="their file or folder, or an export of inril")
    imports.add_argument("out", type=Path, nargs="?", metavar="RUN", help="new run folder")
    imports.add_argument("--map", type=Path, metavar="FILE", help="what their columns mean; exports of inril need none")
    imports.add_argument("--write-map", type=Path, metavar="FILE", help="write a mapping to fill in, and stop")
    imports.add_argument("--contract", metavar="NAME", help="with --write-map: name or path of the contract")
    imports.add_argument("--rosetta", metavar="FILE", type=Path, help="with --write-map: a rosetta contract of the bag")
    imports.add_argument("--format", choices=IMPORTS, help="without, it is seen from the file")
    imports.add_argument("--leave-out-bad", action="store_true", help="import the others when an episode does not fit")
    _add_force(imports)

    merge = add("merge", _merge, "copy the episodes of several runs into a new one", run_dir=False)
    merge.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    chosen = add("filter", _filter, "copy some episodes of a run into a new one")
    for parser in (merge, chosen):
        parser.add_argument("--out", type=Path, required=True, metavar="NEW", help="new run folder")
        _add_force(parser)
        add_conditions(parser)

    view = add("view", _view, "look at episodes in a browser: videos and curves", as_json=False)
    view.add_argument("--out", type=Path, metavar="FILE", help="write one .html file instead of serving")
    view.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    _add_force(view)
    add_conditions(view)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace what an earlier such command has written there")


def _export(arguments: argparse.Namespace) -> int:
    from inril_core.exchange.exporting import export_run

    with progress(arguments, "exporting") as on_progress:
        done = export_run(
            arguments.run_dir,
            arguments.out,
            arguments.format,
            selection_of(arguments),
            images=not arguments.no_images,
            frames=arguments.frames,
            replace=arguments.force,
            on_progress=on_progress,
        )
    _say(arguments, asdict(done), done.warnings, f"{done.path}: {done.episodes} episodes, {done.steps} steps")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from inril_core.exchange.importing import import_episodes, write_map

    if arguments.write_map is not None:
        if arguments.contract is None:
            raise ConfigError("import --write-map: give the --contract that the episodes shall have")
        write_map(arguments.source, arguments.write_map, arguments.contract, arguments.format, arguments.rosetta)
        _say(arguments, {"map": str(arguments.write_map)}, (), f"{arguments.write_map}: replace each ??? in it")
        return 0
    if arguments.rosetta is not None:
        raise ConfigError("import: --rosetta goes with --write-map; look at the mapping, then give it with --map")
    if arguments.out is None:
        raise ConfigError("import: give the new run folder behind the source")
    with progress(arguments, "importing") as on_progress:
        done = import_episodes(
            arguments.source,
            arguments.out,
            arguments.map,
            arguments.format,
            leave_out_bad=arguments.leave_out_bad,
            replace=arguments.force,
            on_progress=on_progress,
        )
    told = (*done.warnings, *(f"left out: {text}" for text in done.left_out))
    _say(arguments, asdict(done), told, f"{done.path}: {done.episodes} episodes, {done.steps} steps")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    return _collect(arguments, arguments.runs)


def _filter(arguments: argparse.Namespace) -> int:
    return _collect(arguments, [arguments.run_dir])


def _collect(arguments: argparse.Namespace, runs: Sequence[Path]) -> int:
    from inril_core.data.collect import collect
    from inril_core.output import Output, is_marked, mark

    with (
        Output(arguments.out, arguments.force, partial(is_marked, kind="run")) as output,
        progress(arguments, "copying") as on_progress,
    ):
        done = collect(runs, output.part, selection_of(arguments), output.path.name, on_progress)
        mark(output.part, "run", collected_from=[path.name for path in runs])
        output.commit()
    facts = {"path": str(output.path), **asdict(done)}
    told = [f"{name}: in several runs; copied once" for name in done.twice]
    _say(arguments, facts, told, f"{output.path}: {done.episodes} episodes, {done.steps} steps")
    return 0


def _view(arguments: argparse.Namespace) -> int:
    from inril_core.exchange.view import ViewServer, write_page

    selection = selection_of(arguments)
    if arguments.out is not None:
        with progress(arguments, "writing") as on_progress:
            count = write_page(arguments.run_dir, arguments.out, selection, arguments.force, on_progress)
        print(f"{arguments.out}: {count} episodes")
        return 0
    server = ViewServer(arguments.run_dir, selection, arguments.port)
    thread = threading.Thread(target=server.serve, name="view", daemon=True)
    thread.start()
    print(f"{server.url} shows the episodes; Ctrl-C ends", flush=True)
    try:
        while thread.is_alive():
            thread.join(timeout=1.0)
    finally:
        server.close()
    return 0


def _say(arguments: argparse.Namespace, facts: dict[str, Any], told: Sequence[str], line: str) -> None:
    if arguments.json:
        print(json.dumps(facts, default=str))
        return
    for text in told:
        print(text)
    print(line)
