"""robomimic's HDF5: ``data/demo_N/{obs,next_obs,actions,rewards,dones}``, ``env_args``, ``total``, ``mask``.

What its readers do not look at (stamps, sources, what the policy sampled) lies in ``data/demo_N/inril``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.exchange.columns import contract_of, json_facts, observation_slices, reward_and_done, rows_of
from inril_core.exchange.hdf5_file import hdf5
from inril_core.vocabulary import OUTCOMES, PURPOSES, outcome_word

GYM_TYPE = 2
"""robomimic's number of the kind of environment that is made by its name alone."""
SIDE = "inril"
MASKS = (*PURPOSES, *OUTCOMES)


class RobomimicWriter:
    """Writes one episode after the other into one file; ``close`` ends it.

    compress: images with gzip, which takes time and saves about half of the disk.
    """

    def __init__(self, path: Path, compress: bool = True) -> None:
        self._h5py = hdf5()
        self._file = self._h5py.File(path, "w")
        self._data = self._file.create_group("data")
        self._compress = compress
        self._masks: dict[str, list[str]] = {name: [] for name in MASKS}
        self._count, self._total = 0, 0
        self._contract_text: str | None = None

    def write(self, episode: Episode) -> None:
        """Append an episode.

        Raises:
            ConfigError: another contract than those before, or a camera without an image at some step.
        """
        if self._contract_text is None:
            self._contract_text = episode.contract_text
            self._describe(episode)
        elif _observed(episode.contract_text) != _observed(self._contract_text):
            raise ConfigError(
                f"{episode.episode_id}: of another contract than those before; export one contract a file"
            )
        name = f"demo_{self._count}"
        demo = self._data.create_group(name)
        demo.attrs["num_samples"] = episode.steps
        rewards, dones = reward_and_done(episode)
        for key, values in (("actions", episode.actions), ("rewards", rewards), ("dones", dones.astype(np.int64))):
            demo.create_dataset(key, data=values)
        if episode.qpos is not None and np.isfinite(episode.qpos).all():
            demo.create_dataset("states", data=episode.qpos[:-1])
        self._write_observations(demo, episode)
        self._write_side(demo.create_group(SIDE), episode)
        for mask in (episode.purpose, outcome_word(episode.success)):
            self._masks[mask].append(name)
        self._count, self._total = self._count + 1, self._total + episode.steps

    def close(self) -> None:
        """Write what concerns all demonstrations and close the file."""
        self._data.attrs["total"] = self._total
        masks = self._file.create_group("mask")
        for name, members in self._masks.items():
            if members:
                masks.create_dataset(name, data=np.array(members, dtype="S"))
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is; may be called after `close`."""
        self._file.close()

    def _describe(self, episode: Episode) -> None:
        contract = contract_of(episode.contract_text)
        kwargs: dict[str, Any] = {"contract": contract.model_dump(mode="json") if contract is not None else {}}
        if contract is not None:
            kwargs["control_freq"] = contract.control_rate_hz
        arguments = {"env_name": episode.task, "type": GYM_TYPE, "env_version": "inril-1", "env_kwargs": kwargs}
        self._data.attrs["env_args"] = json.dumps(arguments, sort_keys=True)

    def _write_observations(self, demo: Any, episode: Episode) -> None:
        for group, begin, end in (("obs", 0, episode.steps), ("next_obs", 1, episode.steps + 1)):
            into = demo.create_group(group)
            for field, part in observation_slices(episode.contract_text, episode.observations.shape[1]).items():
                into.create_dataset(field, data=episode.observations[begin:end, part])
            for name, pixels in episode.images.items():
                places = {int(step): place for place, step in enumerate(episode.image_steps[name])}
                lacking = [step for step in range(episode.steps + 1) if step not in places]
                if lacking:
                    raise ConfigError(
                        f"{episode.episode_id}: camera {name} has no image at observation {lacking[0]} ({len(lacking)} "
                        "lack); export with --no-images, or only with --complete what lacks nothing"
                    )
                rows = pixels[[places[step] for step in range(begin, end)]]
                options = {"compression": "gzip", "compression_opts": 1} if self._compress else {}
                into.create_dataset(f"{name}_image", data=rows, chunks=(1, *rows.shape[1:]), **options)

    def _write_side(self, side: Any, episode: Episode) -> None:
        rows = rows_of(episode)
        side.attrs["facts"] = json_facts(rows.facts)
        side.attrs["images"] = json.dumps(sorted(episode.images))
        texts = self._h5py.string_dtype()
        for table, columns in (("steps", rows.steps), ("observations", rows.observations)):
            into = side.create_group(table)
            for key, values in columns.items():
                if key in ("actions", "observations"):
                    continue
                into.create_dataset(key, data=values, dtype=texts if values.dtype == object else None)


def _observed(text: str) -> Any:
    contract = contract_of(text)
    return text if contract is None else (contract.interface_digest, contract.slices())
