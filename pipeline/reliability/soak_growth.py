"""Whether something grew: a robust slope through samples, and how much of it is allowed.

The slope is Theil and Sen's, the median of the slopes of all pairs, so that a process that was started afresh in
mid-run or one odd sample do not make it. What it amounts to over the samples' time is the rise. No run, no file here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .soak_sample import Holdings, Sample

_MOST_PAIRS_OF = 400
"""Samples that are compared with each other; of more, every so-manieth."""
_ALLOWED_SHARE = 0.05
_ALLOWED_MIB, _ALLOWED_COUNT = 16.0, 1.5

_SUMMED: dict[str, Callable[[Holdings], float]] = {
    "own memory, MiB": lambda one: one.own_mib,
    "resident memory (RSS), MiB": lambda one: one.rss_mib,
    "file handles": lambda one: one.handles,
    "threads": lambda one: one.threads,
    "sockets": lambda one: one.sockets,
    "shared memory blocks (memfd)": lambda one: one.memfds,
}


@dataclass(frozen=True, slots=True)
class Growth:
    """One series: median, lowest, highest, the rise over its time, and the most that is taken for none."""

    what: str
    median: float
    lowest: float
    highest: float
    rise: float
    allowed: float

    @property
    def grows(self) -> bool:
        """Whether it rose by more than is allowed."""
        return self.rise > self.allowed


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Every series of the run as a whole, and the memory of each stage; none of fewer than three samples."""
    full = max((len(sample.processes) for sample in samples), default=0)
    whole = [sample for sample in samples if len(sample.processes) == full]
    if len(whole) < 3:
        return []
    at_s = [sample.at_s for sample in whole]
    found = []
    for what, of in _SUMMED.items():
        sums = [sum(of(one) for one in sample.processes.values()) for sample in whole]
        found.append(growth_of(what, at_s, sums, _allowed(what, sums)))
    names = [float(sample.shared_names) for sample in whole]
    found.append(growth_of("names in /dev/shm (of all programs)", at_s, names, _ALLOWED_COUNT))
    for stage in whole[0].processes:
        memory = [sample.processes[stage].own_mib for sample in whole]
        what = f"own memory of {stage}, MiB"
        found.append(growth_of(what, at_s, memory, _allowed(what, memory)))
    return found


def _allowed(what: str, values: Sequence[float]) -> float:
    if "MiB" not in what:
        return _ALLOWED_COUNT
    return max(_ALLOWED_MIB, _ALLOWED_SHARE * float(np.median(values)))


def growth_of(what: str, at_s: Sequence[float], values: Sequence[float], allowed: float) -> Growth:
    """The rise of one series; ``at_s`` and ``values`` go together."""
    rise = slope(at_s, values) * (at_s[-1] - at_s[0])
    return Growth(what, float(np.median(values)), min(values), max(values), round(rise, 3), round(allowed, 3))


def slope(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's slope, units a second."""
    step = -(-len(at_s) // _MOST_PAIRS_OF)
    times, heights = np.array(at_s[::step], float), np.array(values[::step], float)
    first, second = np.triu_indices(len(times), 1)
    apart = times[second] - times[first]
    return float(np.median((heights[second] - heights[first])[apart > 0] / apart[apart > 0]))


def grown(series: Sequence[Growth]) -> list[Growth]:
    """Those that grew."""
    return [growth for growth in series if growth.grows]
