"""A run directory: who it is, and where everything in it lies."""

from __future__ import annotations

import errno
import json
import os
import re
import unicodedata
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
    def evaluation_plan(self) -> Path:
        """The locked plan; a run that has one is an evaluation."""
        return self.root / "plan.json"

    @property
    def starts(self) -> Path:
        """Pictures of how the cell is to be laid out, which a person puts there."""
        return self.root / "starts"

    @property
    def console_token(self) -> Path:
        """The token of the console's page; only its owner can read it."""
        return self.root / "console.token"

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
    """An opened run."""

    run_id: str
    """Unique; the folder's name need not be."""
    paths: RunPaths


def open_run(run_dir: str | Path, run_id: str | None = None) -> Run:
    """Open a run directory and give it its id at the first call. Processes may race for it.

    Args:
        run_id: of a new run; None: made from the folder's name. A run that exists must have it.

    Raises:
        ConfigError: the folder cannot be made, its run.json is not one of inril's, or it is another run.
    """
    root = Path(run_dir).expanduser().absolute()
    identity = root / "run.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not identity.exists():
            content = {"run_id": run_id or new_run_id(root.name)}
            create_once(identity, json.dumps(content).encode() + b"\n")
        text = identity.read_text()
    except OSError as error:
        raise ConfigError(f"run_dir = {root}: {_cause(error, root)}") from error
    try:
        known = json.loads(text)["run_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{identity}: {type(error).__name__} ({error}); restore the file, or give a folder that is new"
        ) from error
    if not isinstance(known, str) or not _RUN_ID.fullmatch(known):
        raise ConfigError(
            f"{identity}: run_id = {known!r:.100} is no id; restore the file, or give a folder that is new"
        )
    if run_id is not None and known != run_id:
        raise ConfigError(f"run_dir = {root}: is run {known!r}, not {run_id!r}; leave run_id out, or give a new folder")
    return Run(known, RunPaths(root))


_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Episodes are named after their run, and files after episodes."""
_LONGEST_NAME = 40


def new_run_id(name: str) -> str:
    """A unique id of a run in a folder of this name."""
    return f"{_safe(name)}-{uuid.uuid4().hex[:8]}"


def _safe(name: str) -> str:
    """A folder's name as the beginning of an id: ASCII letters and digits, bounded, never empty."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", ascii_name)[:_LONGEST_NAME].strip("-") or "run"


def _cause(error: OSError, root: Path) -> str:
    """What failed, and the remedy that fits it."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        at = Path(error.filename or root)
        file = next((path for path in (*reversed(at.parents), at) if path.is_file()), at)
        return f"{file} is a file; give a folder"
    if error.errno == errno.ENOSPC:
        return f"{error.strerror}; free some space, or give a folder on another disk"
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.strerror}; give a shorter name (255 bytes at most)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror} ({error.filename or root}); give a folder that you may write to"
    return f"{error}; give a folder on a local disk"
