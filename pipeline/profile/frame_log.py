"""Reads a frame log (``--sink trace:FILE.csv``) in pieces of columns, so that days of frames fit into constant memory.

Separate from what is worked out of it. What the columns mean is said in ``pipeline/sinks/trace_row.py``.
"""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError

from ..sinks.trace_row import COLUMNS, PRESENTED, TEXT_COLUMNS

Ints = npt.NDArray[np.int64]
NONE = np.iinfo(np.int64).min
"""Stands for an empty cell in a column of numbers."""
_ROWS_AT_ONCE = 20_000
_TAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Rows:
    """A piece of the log: columns of numbers (int64, NONE where empty) and of text, all of one length."""

    numbers: dict[str, Ints]
    texts: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.texts["event"])

    def __getitem__(self, column: str) -> Ints:
        return self.numbers[column]

    def are(self, event: str) -> npt.NDArray[np.bool_]:
        """Which rows are of this kind."""
        return np.fromiter((one == event for one in self.texts["event"]), np.bool_, len(self))

    def row(self, index: int) -> dict[str, int | str | None]:
        """One row as plain data."""
        row: dict[str, int | str | None] = {}
        for column in COLUMNS:
            if column in self.texts:
                row[column] = self.texts[column][index]
            else:
                value = int(self.numbers[column][index])
                row[column] = None if value == NONE else value
        return row


def rows_from(records: Sequence[Sequence[str]]) -> Rows:
    """Columns from lines as CSV gives them; raises ValueError for what is no such line."""
    columns = list(zip(*records, strict=True)) if records else [()] * len(COLUMNS)
    if len(columns) != len(COLUMNS):
        raise ValueError(f"{len(columns)} columns; expected {len(COLUMNS)}")
    numbers: dict[str, Ints] = {}
    texts: dict[str, list[str]] = {}
    for name, values in zip(COLUMNS, columns, strict=True):
        if name in TEXT_COLUMNS:
            texts[name] = list(values)
        else:
            numbers[name] = np.array([int(value) if value else NONE for value in values], np.int64)
    return Rows(numbers, texts)


def whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """All but the last one if it is torn, as a run that was killed leaves it."""
    return (line for line in lines if line.endswith("\n"))


def read_log(path: Path, rows_at_once: int = _ROWS_AT_ONCE) -> Iterator[Rows]:
    """The log in pieces; raises ConfigError for a file that is none."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(whole_lines(file))
        if tuple(next(lines, ())) != COLUMNS:
            raise ConfigError(f"frame log: {path}; expected one that --sink trace:FILE.csv has written")
        while records := list(itertools.islice(lines, rows_at_once)):
            try:
                yield rows_from(records)
            except ValueError as error:
                raise ConfigError(f"frame log: {path}; a line cannot be read ({error})") from error


@dataclass(frozen=True, slots=True)
class Span:
    """When the first and the last frame of a log were presented, monotonic nanoseconds."""

    begin_ns: int
    end_ns: int


def span_of(path: Path) -> Span | None:
    """From the first to the last presented frame, without reading the log; None without such a frame."""
    place = COLUMNS.index("present_ns")
    with path.open(encoding="utf-8", newline="") as file:
        first = next((row for row in csv.reader(file) if row[:1] == [PRESENTED]), None)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read().rpartition(b"\n")[0].decode("utf-8", "replace").splitlines()
    last = next((row for row in csv.reader(reversed(tail)) if row[:1] == [PRESENTED]), None)
    if first is None or last is None or len(last) != len(COLUMNS):
        return None
    return Span(int(first[place]), int(last[place]))
