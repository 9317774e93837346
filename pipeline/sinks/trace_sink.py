"""The sink ``trace:FILE``: every frame with every stamp, and every frame that was lost with its cause.

What the report says in percentiles, this says frame by frame, for days on end in constant memory: CSV, or Parquet
where the file ends in ``.parquet`` (needs pyarrow). It runs in the record process like every sink that does not
present, so it never delays a picture. A CSV file is whole up to the last half second even after a SIGKILL; a Parquet
file can only be read once it was closed. ``trace_row.py`` says what the columns mean.
"""

import csv
import importlib
import os
import threading
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from endostream.configs.errors import ConfigError

from ..frame import FrameKey, Lost, Presented
from ..sink import SinkContext, SinkSpec
from .output_path import cannot_write, check_output_file, part_path
from .trace_row import COLUMNS, NOT_LOGGED, TEXT_COLUMNS, Row, lost_row, row_of

_FLUSH_NS = 500_000_000
_ROWS_AT_ONCE = 8192
"""Rows that Parquet gets at once, and all that is ever held in memory."""


class RowWriter(Protocol):
    """Writes rows to a file."""

    def write(self, row: Row, at_ns: int) -> None:
        """Take one row; ``at_ns`` is when it happened."""

    def close(self) -> None:
        """Finish the file."""


class CsvRows:
    """Rows as CSV with a header, on disk every half second; ``again`` goes on in the file of a killed process."""

    def __init__(self, path: Path, again: bool = False) -> None:
        headed = again and path.exists() and _cut_torn_line(path)
        self._file = path.open("a" if headed else "w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._flushed_ns = 0
        if not headed:
            self._csv.writerow(COLUMNS)

    def write(self, row: Row, at_ns: int) -> None:
        """Write one row."""
        self._csv.writerow(row)
        if at_ns - self._flushed_ns > _FLUSH_NS:
            self._file.flush()
            self._flushed_ns = at_ns

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetRows:
    """Rows as Parquet, in groups of 8,192; only the first of them has to wait for pyarrow's import."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Row] = []
        self._writer: Any = None
        path.write_bytes(b"")
        threading.Thread(target=importlib.import_module, args=("pyarrow.parquet",), daemon=True).start()

    def write(self, row: Row, at_ns: int) -> None:
        """Take one row."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._write_group()

    def _write_group(self) -> None:
        arrow = importlib.import_module("pyarrow")
        text, number = arrow.dictionary(arrow.int32(), arrow.string()), arrow.int64()
        schema = arrow.schema([(name, text if name in TEXT_COLUMNS else number) for name in COLUMNS])
        if self._writer is None:
            parquet = importlib.import_module("pyarrow.parquet")
            self._writer = parquet.ParquetWriter(self._path, schema, compression="zstd")
        columns = list(zip(*self._rows, strict=True)) or [()] * len(COLUMNS)
        arrays = [arrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        self._writer.write_table(arrow.table(arrays, schema=schema))
        self._rows.clear()

    def close(self) -> None:
        """Write what is left and the footer, without which nobody can read the file."""
        if self._rows or self._writer is None:
            self._write_group()
        self._writer.close()


class TraceSink:
    """Writes the log; after a restart of the record process CSV goes on in the same file, Parquet in the next."""

    needs_picture = False

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self._spec, self._path = spec, Path(spec.path)
        self._expected: FrameKey | None = None
        self._ahead: list[Lost] = []
        self._rows: RowWriter | None = None
        try:
            if _is_parquet(self._path):
                self._path = part_path(self._path, context.part)
                self._rows = ParquetRows(self._path)
            else:
                self._rows = CsvRows(self._path, again=context.part > 0)
        except OSError as error:
            raise cannot_write(spec, self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise SinkError for a path that cannot be written, ConfigError for Parquet without pyarrow."""
        check_output_file(spec, Path(spec.path))
        if _is_parquet(Path(spec.path)) and find_spec("pyarrow") is None:
            raise ConfigError(
                f"sink {spec.label}: Parquet; expected pyarrow with it. "
                "Try: pip install 'endostream[profile]', or trace:FILE.csv"
            )

    def write(self, presented: Presented) -> None:
        """Write one frame, and before it those that are missing; raises SinkError when the disk is full."""
        if self._rows is None:
            raise ValueError(f"sink {self._spec.label}: closed")
        try:
            for lost in () if presented.synthetic else self._missing(presented):
                self._rows.write(lost_row(*lost), presented.present_ns)
            self._rows.write(row_of(presented), presented.present_ns)
        except OSError as error:
            raise cannot_write(self._spec, self._path, error) from error

    def _missing(self, presented: Presented) -> list[Lost]:
        """What overlay says was lost, and what was lost on the way from there to here.

        Overlay may tell of a loss with a frame before it: it has received further than it has presented.
        """
        key, expected = presented.frame.key, self._expected
        self._expected = key._replace(seq=key.seq + 1)
        lost = list(presented.lost)
        known = [*self._ahead, *lost]
        self._ahead = [one for one in known if one.key > key]
        if expected is not None and expected[:2] == key[:2]:
            told = sum(one.frames for one in known if expected <= one.key < key)
            if key.seq - expected.seq - told > 0:
                lost.append(Lost(expected, key.seq - expected.seq - told, NOT_LOGGED))
        return lost

    def close(self) -> None:
        """Finish the file; may be called twice."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        try:
            rows.close()
        except OSError as error:
            raise cannot_write(self._spec, self._path, error) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _cut_torn_line(path: Path) -> bool:
    """Cut off the rest of a line that a killed process did not finish; whether a whole one is left."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        tail_from = max(0, end - 1_000_000)
        file.seek(tail_from)
        file.truncate(kept := tail_from + file.read().rfind(b"\n") + 1)
    return kept > 0
