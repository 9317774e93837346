"""One run's frame log worked through once: its series, what was counted, its worst frames, and its first seconds.

Separate from the figures over several runs (``result.py``) and from running anything. Memory does not grow with the
length of the log.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..sinks.trace_row import DROPPED, NOT_LOGGED, PRESENTED, SYNTHETIC
from .digest import RunDigest
from .frame_log import NONE, Ints, Rows, Span, read_log, span_of
from .series import SeriesReader

WORST = 10
"""Frames kept of each delay."""
KEPT_ROWS = 1500
"""Rows kept for the trace, from the beginning of the window: a minute at 25 frames/s."""
WORST_BY = {
    "video_delay": ("present_ns", "capture_ns"),
    "annotation_delay": ("present_ns", "mask_capture_ns"),
}

Row = dict[str, int | str | None]


@dataclass(frozen=True, slots=True)
class Window:
    """What of a run counts.

    Attributes:
        warm_up_s: left out, from the first presented frame on.
        period_ns: of a frame, for deadlines; None if the rate is unknown.
        paced: whether frames were due at a time.
        warm_up_share: of a run that is not paced, the share left out instead: how long it takes nobody knows before,
            and a fast one would be over within the warm-up.
    """

    warm_up_s: float
    period_ns: int | None
    paced: bool
    warm_up_share: float | None = None

    def begin_ns(self, span: Span) -> int:
        """From when on frames of a run count."""
        if self.warm_up_share is None:
            return span.begin_ns + int(self.warm_up_s * 1e9)
        return span.begin_ns + int((span.end_ns - span.begin_ns) * self.warm_up_share)


@dataclass(slots=True)
class Counted:
    """Frames by what became of them; ``deadline_misses`` were presented more than a period after they were due."""

    presented: int = 0
    synthetic: int = 0
    not_logged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    masks: int = 0
    deadline_misses: int | None = None

    def add(self, rows: Rows, inside: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
        """Count the rows that lie inside."""
        events, states, causes = rows.texts["event"], rows.texts["state"], rows.texts["cause"]
        frames, firsts = rows["frames"], rows["first_shown"]
        for index in np.flatnonzero(inside):
            event = events[index]
            if event == PRESENTED:
                self.presented += 1
                self.states[states[index]] += 1
                self.masks += int(firsts[index] == 1)
            elif event == DROPPED:
                self.dropped[causes[index]] += int(frames[index])
            elif event == NOT_LOGGED:
                self.not_logged += int(frames[index])
            elif event == SYNTHETIC:
                self.synthetic += 1


@dataclass(slots=True)
class Measured:
    """What came out of one run's log: inside the window, but for ``whole``, which counts all of it."""

    digest: RunDigest
    window: Window
    counted: Counted = field(default_factory=Counted)
    whole: Counted = field(default_factory=Counted)
    worst: dict[str, list[Row]] = field(default_factory=dict)
    kept: list[Row] = field(default_factory=list)
    first_present_ns: int | None = None
    first_mask_ns: int | None = None


def measure_log(path: Path, window: Window) -> Measured:
    """Work a log through; one without a presented frame has no series."""
    span = span_of(path) or Span(0, 0)
    return measure_rows(read_log(path), span, window)


def measure_rows(pieces: Iterable[Rows], span: Span, window: Window) -> Measured:
    """The same of rows from anywhere; ``span`` is from the first to the last presented frame."""
    begin_ns = window.begin_ns(span)
    measured = Measured(RunDigest(begin_ns, span.end_ns), window)
    if window.period_ns is not None:
        measured.counted.deadline_misses = 0
    reader, worst = SeriesReader(window.paced), {name: _Worst(*ends) for name, ends in WORST_BY.items()}
    at_ns = span.begin_ns
    for rows in pieces:
        times_ns = _times(rows, at_ns)
        at_ns = int(times_ns[-1]) if len(times_ns) else at_ns
        inside = times_ns >= begin_ns
        for name, values in reader.values(rows).items():
            measured.digest.add(name, values)
        measured.whole.add(rows, np.ones(len(rows), np.bool_))
        measured.counted.add(rows, inside)
        _note_first(measured, rows)
        _note_deadlines(measured, rows, inside)
        for keeper in worst.values():
            keeper.add(rows, inside)
        for index in np.flatnonzero(inside)[: max(0, KEPT_ROWS - len(measured.kept))]:
            measured.kept.append(rows.row(int(index)))
    measured.digest.close()
    measured.worst = {name: keeper.rows() for name, keeper in worst.items()}
    return measured


def _times(rows: Rows, before_ns: int) -> Ints:
    """When each row happened; what was lost takes the time of the picture before it."""
    times = rows["present_ns"].copy()
    known = times != NONE
    last = np.maximum.accumulate(np.where(known, np.arange(len(times)), -1))
    return np.where(last >= 0, times[np.maximum(last, 0)], before_ns) if len(times) else times


def _note_first(measured: Measured, rows: Rows) -> None:
    """When the first picture and the first mask were shown, warm-up or not."""
    shown = rows.are(PRESENTED)
    for name, which in (("first_present_ns", shown), ("first_mask_ns", shown & (rows["first_shown"] == 1))):
        if getattr(measured, name) is None and which.any():
            setattr(measured, name, int(rows["present_ns"][which][0]))


def _note_deadlines(
    measured: Measured, rows: Rows, inside: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> None:
    period_ns = measured.window.period_ns
    if period_ns is None or measured.counted.deadline_misses is None:
        return
    due = np.where(rows["due_ns"] == NONE, rows["capture_ns"], rows["due_ns"])
    late = rows.are(PRESENTED) & inside & (rows["present_ns"] - due > period_ns)
    measured.counted.deadline_misses += int(np.count_nonzero(late))


class _Worst:
    """Keeps the rows with the longest time between two columns, the worst first."""

    def __init__(self, end: str, begin: str) -> None:
        self._end, self._begin = end, begin
        self._heap: list[tuple[int, int, Row]] = []
        self._count = 0

    def add(self, rows: Rows, inside: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
        """Look through the next piece."""
        known = inside & rows.are(PRESENTED) & (rows[self._begin] != NONE)
        if self._begin.startswith("mask"):
            known &= rows["first_shown"] == 1
        places = np.flatnonzero(known)
        lengths = rows[self._end][places] - rows[self._begin][places]
        for place in places[np.argsort(-lengths, kind="stable")[:WORST]]:
            self._count += 1
            length = int(rows[self._end][place] - rows[self._begin][place])
            entry = (length, -self._count, rows.row(int(place)))
            if len(self._heap) < WORST:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)

    def rows(self) -> list[Row]:
        """The kept rows."""
        return [row for _, _, row in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
