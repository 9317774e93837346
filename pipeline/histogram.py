"""Constant-memory histogram of durations: how a run of any length gives exact counts and honest percentiles.

Its cells are an int64 array that the caller supplies, as a rule in shared memory: one process writes, others
read at any time, and what was recorded outlives the writer. Separate from the counters because of its bucket
arithmetic. It does not know what it measures, allocates nothing and takes no lock.

Layout of the cells, each int64, all in nanoseconds except counts::

    0 n | 1 min | 2 max | 3 sum | 4 negative | 5 … one count per bucket

Buckets are 1 ns wide below 512 ns; above, each power of two is cut into 256 equal ones, so a bucket is never
wider than 1/256 = 0.39 % of the values in it. (The scheme is that of HdrHistogram.) The last ends at 2^47 ns,
39 hours; longer durations are counted in it, and the exact maximum still tells them. The sum stays at 2^63 − 1 ns once
it is there, and what is longer than that counts as that: a header with a time that is none ends no stage.
"""

from fractions import Fraction
from math import ceil
from typing import Self, TypedDict

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int64]
"""One-dimensional and contiguous; the caller owns it."""

N, MIN, MAX, SUM, NEGATIVE, FIRST_BUCKET = range(6)
OCTAVE_BITS = 8
TOP_SHIFT = 47 - OCTAVE_BITS - 1
_MOST_NS = (1 << 63) - 1
BUCKETS = (TOP_SHIFT + 2) << OCTAVE_BITS


class SeriesMs(TypedDict):
    """Summary of a series: ``n`` values and percentiles in milliseconds."""

    n: int
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


def bucket_of(value_ns: int) -> int:
    """Index of the bucket that counts ``value_ns`` (≥ 0)."""
    shift = value_ns.bit_length() - OCTAVE_BITS - 1
    if shift <= 0:
        return value_ns
    return min((shift << OCTAVE_BITS) + (value_ns >> shift), BUCKETS - 1)


def upper_edge_ns(bucket: int) -> int:
    """Largest duration that ``bucket`` stands for."""
    shift = max((bucket >> OCTAVE_BITS) - 1, 0)
    return ((bucket - (shift << OCTAVE_BITS) + 1) << shift) - 1


class Histogram:
    """A view of ``cells()`` int64 cells as a histogram; zeroed cells are an empty one.

    Several views of the same cells may read; only one may record. A reader beside a writer may find the value
    that is just being recorded in some of the cells and not yet in others.
    """

    def __init__(self, array: Cells) -> None:
        flat = array.ndim == 1 and array.flags.c_contiguous
        if array.dtype != np.int64 or not flat or array.size < self.cells():
            given = f"{array.dtype} of shape {array.shape}"
            raise ValueError(f"histogram: cells {given}; expected {self.cells()} contiguous int64")
        # Single cells are read and written some three times faster through a memoryview than through NumPy.
        self._cells = array.data
        self._buckets: Cells = array[FIRST_BUCKET : self.cells()]

    @staticmethod
    def cells() -> int:
        """How many int64 cells a histogram takes (10,245: 82 kB, of which only touched pages cost memory)."""
        return FIRST_BUCKET + BUCKETS

    @classmethod
    def in_memory(cls) -> Self:
        """An empty histogram in memory of its own, for tests and for merging into."""
        return cls(np.zeros(cls.cells(), np.int64))

    def record(self, value_ns: int) -> None:
        """Count one duration, a Python int in nanoseconds; a negative one counts as 0, and apart."""
        cells = self._cells
        if value_ns < 0:
            cells[NEGATIVE] += 1
            value_ns = 0
        if value_ns > cells[MAX]:
            value_ns = min(value_ns, _MOST_NS)
            cells[MAX] = value_ns
        if value_ns < cells[MIN] or not cells[N]:
            cells[MIN] = value_ns
        cells[SUM] = min(cells[SUM] + value_ns, _MOST_NS)
        cells[FIRST_BUCKET + bucket_of(value_ns)] += 1
        cells[N] += 1

    @property
    def n(self) -> int:
        """How many durations were recorded."""
        return self._cells[N]

    @property
    def negative(self) -> int:
        """How many of them were negative: a clock or a stamp is wrong if this is not 0."""
        return self._cells[NEGATIVE]

    @property
    def min_ns(self) -> int | None:
        """Exact smallest duration, None if there is none."""
        return self._cells[MIN] if self.n else None

    @property
    def max_ns(self) -> int | None:
        """Exact largest duration, None if there is none."""
        return self._cells[MAX] if self.n else None

    @property
    def sum_ns(self) -> int:
        """Exact sum of all durations."""
        return self._cells[SUM]

    def percentile_ns(self, q: float) -> int | None:
        """Nearest-rank percentile: no less than the ⌈q·n/100⌉-th smallest duration and at most 0.4 % more.

        It is the upper edge of the bucket that holds that duration, or the exact maximum where that is less.

        Args:
            q: 0 to 100.

        Returns:
            Nanoseconds, None if nothing was recorded.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"percentile: {q}; expected 0 to 100")
        return self._percentiles_ns([q])[0] if self.n else None

    def summary_ms(self) -> SeriesMs | None:
        """Percentiles in ms, to 0.1 µs; None if nothing was recorded: an empty series is never 0."""
        if not self.n:
            return None
        p50, p90, p99, p99_9, top = (
            round(ns / 1e6, 4) for ns in self._percentiles_ns([50, 90, 99, 99.9, 100])
        )
        return {"n": self.n, "p50": p50, "p90": p90, "p99": p99, "p99_9": p99_9, "max": top}

    def counts(self) -> tuple[Cells, Cells]:
        """Upper edges in nanoseconds and counts of the buckets that are not empty, ascending; for curves."""
        used = np.flatnonzero(self._buckets)
        edges_ns = np.array([upper_edge_ns(int(bucket)) for bucket in used], np.int64)
        return edges_ns, self._buckets[used]

    def merge(self, other: "Histogram") -> None:
        """Add everything ``other`` has recorded."""
        if not other.n:
            return
        mine, theirs = self._cells, other._cells
        mine[MIN] = min(mine[MIN], theirs[MIN]) if self.n else theirs[MIN]
        mine[MAX] = max(mine[MAX], theirs[MAX])
        for cell in (SUM, NEGATIVE):
            mine[cell] += theirs[cell]
        self._buckets += other._buckets
        mine[N] += theirs[N]

    def _percentiles_ns(self, wanted: list[float]) -> list[int]:
        """Percentiles of a histogram that is not empty, from one pass over the buckets."""
        cumulative = np.cumsum(self._buckets)
        # Fraction of the decimal text: 99.9 of 1000 is rank 999, which binary floats miss.
        ranks = [max(ceil(Fraction(str(q)) * int(cumulative[-1]) / 100), 1) for q in wanted]
        found = [int(bucket) for bucket in np.searchsorted(cumulative, ranks)]
        top_ns = self._cells[MAX]
        return [top_ns if bucket == BUCKETS - 1 else min(upper_edge_ns(bucket), top_ns) for bucket in found]
