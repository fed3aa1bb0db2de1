"""Numpy rows as Parquet tables in files of bounded size, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from inril_core.errors import ConfigError, missing_package

FILE_BYTES = 100 << 20
FILES_PER_CHUNK = 1000
_DAMAGE = (OSError, ValueError, KeyError, TypeError)


def arrow() -> Any:
    """The module pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("Parquet files need pyarrow", "data", error) from error
    return pyarrow


def column(values: np.ndarray, fixed: bool) -> Any:
    """An Arrow column. Two-dimensional rows become lists, of one length for the whole file if ``fixed``."""
    pa = arrow()
    if values.dtype == object:
        return pa.array([str(text) for text in values], pa.string())
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).ravel())
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]), flat)


def numpy_of(values: Any) -> np.ndarray | None:
    """The inverse of `column`; None for a column without any value."""
    values = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    if values.null_count == len(values):
        return None
    if values.null_count:
        raise ValueError(f"{values.null_count} of {len(values)} rows are empty")
    kind = values.type
    pa = arrow()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return np.array(values.to_pylist(), object)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        flat = values.flatten()
        inner = numpy_of(flat) if len(flat) else np.zeros(0)
        if inner is None or len(flat) % max(1, len(values)):
            raise ValueError("rows of different lengths")
        if not pa.types.is_fixed_size_list(kind) and len(set(values.value_lengths().to_pylist())) > 1:
            raise ValueError("rows of different lengths")
        return inner.reshape(len(values), -1, *inner.shape[1:])
    return np.asarray(values.to_numpy(zero_copy_only=False))


class TableWriter:
    """Rows in ``pattern`` below ``root``, a new file when one is full; the first table fixes the columns.

    pattern: with ``chunk_index`` and ``file_index``.
    """

    def __init__(self, root: Path, pattern: str, file_bytes: int = FILE_BYTES) -> None:
        self.root, self.pattern, self._file_bytes = root, pattern, file_bytes
        self.chunk, self.file = 0, 0
        self._writer: Any = None
        self._bytes = 0
        self._schema: Any = None

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def place(self, new_bytes: int) -> tuple[int, int]:
        """The (chunk, file) index into which so much more is written."""
        if self._writer is not None and self._bytes + new_bytes > self._file_bytes:
            self.close()
            self.chunk, self.file = next_file(self.chunk, self.file)
        return self.chunk, self.file

    def write(self, columns: Mapping[str, Any], placed: bool = False) -> tuple[int, int]:
        """Append rows of an episode, in one file; returns its (chunk, file) index. Values are Arrow columns.

        placed: `place` was asked before.
        """
        pa = arrow()
        table = pa.table(dict(columns))
        if self._schema is None:
            self._schema = table.schema
        table = self._as_before(table)
        if not placed:
            self.place(table.nbytes)
        if self._writer is None:
            path = self.root / self.pattern.format(chunk_index=self.chunk, file_index=self.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._bytes = pa.parquet.ParquetWriter(path, self._schema, compression="snappy"), 0
        self._writer.write_table(table)
        self._bytes += table.nbytes
        return self.chunk, self.file

    def close(self) -> None:
        """End the file; may be called again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _as_before(self, table: Any) -> Any:
        """A column that this episode does not have is empty; a column of nulls takes the type of the others."""
        pa = arrow()
        names = table.schema.names
        lacking = [field for field in self._schema if field.name not in names]
        for field in lacking:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        new = sorted(set(names) - set(self._schema.names))
        if new:
            raise ConfigError(f"columns {new} are in some episodes only; export these episodes by themselves")
        try:
            return table.select(self._schema.names).cast(self._schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"columns differ between episodes ({error}); export episodes of one contract") from error


def next_file(chunk: int, file: int) -> tuple[int, int]:
    """The (chunk, file) index behind another."""
    return (chunk + 1, 0) if file + 1 == FILES_PER_CHUNK else (chunk, file + 1)


def read_tables(folder: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """Row groups of all Parquet files below a folder, in order, one at a time.

    Raises:
        ConfigError: a file is damaged or lacks a column.
    """
    pa = arrow()
    for path in sorted(folder.rglob("*.parquet")):
        try:
            file = pa.parquet.ParquetFile(path)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)
        except _DAMAGE as error:
            raise ConfigError(f"{path}: not a readable Parquet file ({error}); export or download it again") from error
