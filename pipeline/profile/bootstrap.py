"""Percentiles of a series over several runs, and how far they can be trusted: a block bootstrap in two levels.

Frames that follow one another are alike: a busy second delays all of its frames. Drawing single frames would pretend
to thirty witnesses where there is one, so whole blocks of time are drawn, and before them whole runs, where there are
several: what differs from start to start (memory layout, other load) is part of the doubt. The intervals are the 2.5th
and 97.5th percentile of 1,000 draws. That of a maximum can only reach down, and with fewer than five values beyond a
percentile its interval is too narrow; both are marked. With R runs the part between runs comes out too small by about
(R - 1)/R.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ..histogram import upper_edge_ns
from .digest import SeriesDigest
from .frame_log import Ints

Floats = npt.NDArray[np.float64]
QUANTILES = {
    "p50": Fraction(50, 100),
    "p90": Fraction(90, 100),
    "p99": Fraction(99, 100),
    "p99_9": Fraction(999, 1000),
}
FIGURES = (*QUANTILES, "max", "jitter")
"""Of every series; jitter is p99 − p50."""
DRAWS = 1000
FEW = 5


@dataclass(frozen=True, slots=True)
class Pooled:
    """A series of several runs put together: only the buckets that are used.

    Attributes:
        edges_ns: upper edge of each used bucket, ascending.
        runs: int64 counts, blocks × used buckets, of each run that has any.
        maxima_ns: of each block of these runs.
    """

    edges_ns: Ints
    runs: list[Ints]
    maxima_ns: list[Ints]

    @property
    def counts(self) -> Ints:
        """Of all runs together."""
        return np.asarray(sum(run.sum(axis=0) for run in self.runs), np.int64)


def pool(digests: Sequence[SeriesDigest]) -> Pooled | None:
    """Put runs together, empty blocks left out; None if there is no value at all."""
    used = np.flatnonzero(sum(digest.counts.sum(axis=0, dtype=np.int64) for digest in digests))
    if not digests or not len(used):
        return None
    edges_ns = np.array([upper_edge_ns(int(bucket)) for bucket in used], np.int64)
    runs, maxima_ns = [], []
    for digest in digests:
        filled = digest.maxima_ns >= 0
        if filled.any():
            runs.append(digest.counts[filled][:, used].astype(np.int64))
            maxima_ns.append(digest.maxima_ns[filled])
    return Pooled(edges_ns, runs, maxima_ns)


def figures_ns(pooled: Pooled) -> dict[str, int]:
    """The figures themselves: nearest-rank percentiles (at most 0.4 % high), the exact maximum, jitter."""
    counts = pooled.counts
    total, cumulative = int(counts.sum()), np.cumsum(counts)
    top_ns = max(int(maxima.max()) for maxima in pooled.maxima_ns)
    found = {}
    for name, share in QUANTILES.items():
        rank = -(-share.numerator * total // share.denominator)
        found[name] = min(int(pooled.edges_ns[int(np.searchsorted(cumulative, rank))]), top_ns)
    return found | {"max": top_ns, "jitter": found["p99"] - found["p50"]}


def draws_ns(pooled: Pooled, seed: int = 0, draws: int = DRAWS) -> dict[str, Floats] | None:
    """Each figure of ``draws`` resampled series; None with a single block, from which nothing can be drawn."""
    if sum(len(run) for run in pooled.runs) < 2:
        return None
    random = np.random.default_rng(seed)
    times = random.multinomial(len(pooled.runs), [1 / len(pooled.runs)] * len(pooled.runs), size=draws)
    counts = np.zeros((draws, len(pooled.edges_ns)), np.float64)
    top_ns = np.zeros(draws, np.float64)
    for number, (run, maxima) in enumerate(zip(pooled.runs, pooled.maxima_ns, strict=True)):
        blocks = len(run)
        weights = random.multinomial(times[:, number] * blocks, [1 / blocks] * blocks)
        counts += weights.astype(np.float64) @ run.astype(np.float64)
        np.maximum(top_ns, np.where(weights > 0, maxima, 0).max(axis=1), out=top_ns)
    return _figures_of_draws(pooled.edges_ns, counts, top_ns)


def _figures_of_draws(edges_ns: Ints, counts: Floats, top_ns: Floats) -> dict[str, Floats]:
    cumulative = np.cumsum(counts, axis=1)
    totals = cumulative[:, -1:]
    found: dict[str, Floats] = {}
    for name, share in QUANTILES.items():
        # The counts are whole numbers held exactly; half a count of slack keeps the product's rounding out.
        ranks = np.ceil(totals * share.numerator / share.denominator - 1e-6)
        places = (cumulative < ranks - 0.5).sum(axis=1)
        found[name] = np.minimum(edges_ns[places].astype(np.float64), top_ns)
    return found | {"max": top_ns, "jitter": found["p99"] - found["p50"]}


def interval_ns(draws: Floats) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def thinned_ns(draws: Floats, to: int = 100) -> Floats:
    """The draws as ``to`` evenly spaced quantiles: what ``compare`` needs of them."""
    return np.asarray(np.percentile(draws, (np.arange(to) + 0.5) * 100 / to), np.float64)


def too_few(n: int, figure: str) -> bool:
    """Whether fewer than five values lie beyond a percentile, so that its interval is too narrow."""
    share = QUANTILES.get("p99" if figure == "jitter" else figure)
    return share is None or n * (1 - share) < FEW
