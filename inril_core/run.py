"""A run directory: who it is, and where everything in it lies."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.files import create_once


@dataclass(frozen=True)
class RunPaths:
    """The places below a run directory."""

    root: Path

    @property
    def episodes(self) -> Path:
        """Finished episodes and their index."""
        return self.root / "episodes"

    @property
    def raw(self) -> Path:
        """Episodes while they are recorded."""
        return self.root / "raw"

    @property
    def weights(self) -> Path:
        """What the policy has accepted, and which of it is active."""
        return self.root / "weights"

    @property
    def learner(self) -> Path:
        """Checkpoints, ingestion log and metrics."""
        return self.root / "learner"

    @property
    def session(self) -> Path:
        """One JSON line per finished episode."""
        return self.root / "session.jsonl"

    @property
    def logs(self) -> Path:
        """What the processes printed."""
        return self.root / "logs"


def default_key_path() -> Path:
    """The key that signs weights on this installation: $INRIL_KEY, or a file of the user's own."""
    given = os.environ.get("INRIL_KEY")
    if given:
        return Path(given)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "inril" / "weights.key"


@dataclass(frozen=True)
class Run:
    """An opened run: `run_id` is unique, the folder's name need not be."""

    run_id: str
    paths: RunPaths


def open_run(run_dir: str | Path) -> Run:
    """Open a run directory and give it its id at the first call. Processes may race for it.

    Raises:
        ConfigError: the folder cannot be made, or its run.json is not one of inril's.
    """
    root = Path(run_dir).expanduser().absolute()
    identity = root / "run.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not identity.exists():
            content = {"run_id": f"{root.name}-{uuid.uuid4().hex[:8]}"}
            create_once(identity, json.dumps(content).encode() + b"\n")
        run_id = json.loads(identity.read_text())["run_id"]
    except OSError as error:
        raise ConfigError(
            f"run_dir = {root}: {error.strerror} ({error.filename}); make it writable for you, or give another folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{identity}: not the identity of a run ({error}); restore the file, or give a new folder"
        ) from error
    if not isinstance(run_id, str) or not run_id:
        raise ConfigError(f"{identity}: run_id = {run_id!r} is not a name; restore the file or use a new folder")
    return Run(run_id, RunPaths(root))
