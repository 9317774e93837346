"""A histogram as plain data, and what can be worked out of two of them taken at different times.

Separate from ``histogram.py``, which lives in shared memory, and from ``metrics.py``, which needs a supervisor: whoever
got a series as JSON can use this. It records nothing.
"""

import math
from typing import TypedDict

from ..histogram import Histogram


class SeriesNs(TypedDict):
    """``buckets`` are pairs of upper edge in nanoseconds and count, ascending, without empty ones; exact to 0.4 %."""

    n: int
    sum_ns: int
    max_ns: int
    buckets: list[list[int]]


def series_of(histogram: Histogram) -> SeriesNs:
    """``histogram`` as plain data; its buckets are read once, so that they add up to ``n``."""
    edges_ns, counts = histogram.counts()
    return {
        "n": int(counts.sum()),
        "sum_ns": histogram.sum_ns,
        "max_ns": histogram.max_ns or 0,
        "buckets": [list(pair) for pair in zip(edges_ns.tolist(), counts.tolist(), strict=True)],
    }


def series_since(newer: SeriesNs, older: SeriesNs) -> SeriesNs:
    """What ``newer`` counted after ``older``; its ``max_ns`` is the upper edge of the last bucket that grew."""
    before = {pair[0]: pair[1] for pair in older["buckets"]}
    grown = [[edge_ns, count - before.get(edge_ns, 0)] for edge_ns, count in newer["buckets"]]
    buckets = [pair for pair in grown if pair[1] > 0]
    return {
        "n": sum(count for _, count in buckets),
        "sum_ns": newer["sum_ns"] - older["sum_ns"],
        "max_ns": min(buckets[-1][0], newer["max_ns"]) if buckets else 0,
        "buckets": buckets,
    }


def series_percentile_ns(series: SeriesNs, q: float) -> int | None:
    """Nearest-rank percentile, 0 to 100, at most 0.4 % above the true one; None of an empty series."""
    rank, seen = max(math.ceil(q * series["n"] / 100), 1), 0
    for edge_ns, count in series["buckets"]:
        seen += count
        if seen >= rank:
            return min(edge_ns, series["max_ns"])
    return None
