"""What is kept of a series of durations of any length: counts in buckets, by block of time, and a coarse course.

Constant memory: 10,240 buckets (those of ``histogram.py``, 0.4 % wide) for each of at most 64 blocks, and at most 300
bins over the run with minimum, median, p99 and maximum of what lies in each. Blocks are what the bootstrap draws from.
Anyone may feed it: the frame log's series come from ``series.py``, and a measurer of another kind adds its own the
same way.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..histogram import BUCKETS, OCTAVE_BITS
from .frame_log import Ints
from .series import Values

Counts = npt.NDArray[np.int32]
MOST_BLOCKS, FEWEST_BLOCKS = 64, 8
MOST_BINS, FEWEST_BINS, BINS_PER_S = 300, 20, 2


def buckets_of(values_ns: Ints) -> Ints:
    """Index of the bucket of each duration (below 0 counts as 0), as ``histogram.bucket_of``."""
    values = np.maximum(values_ns, 0)
    # frexp of integers below 2^53 is exact: the exponent is the number of bits.
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(bits - OCTAVE_BITS - 1, 0)
    return np.asarray(np.minimum((shift << OCTAVE_BITS) + (values >> shift), BUCKETS - 1), np.int64)


def block_count(duration_s: float) -> int:
    """Blocks of a run of this length: of a second each, but no fewer than 8 and no more than 64."""
    return min(MOST_BLOCKS, max(FEWEST_BLOCKS, int(duration_s)))


@dataclass(slots=True)
class Course:
    """A series over the run in bins of even width: count, minimum, median, p99, maximum (ms) of each bin."""

    bins: int
    rows: list[tuple[int, int, float, float, float, float]] = field(default_factory=list)
    _open: int = -1
    _values: list[Ints] = field(default_factory=list)

    def add(self, numbers: Ints, values_ns: Ints) -> None:
        """Take durations with the number of each one's bin, which do not descend."""
        for number in np.unique(numbers):
            if number != self._open:
                self.close()
                self._open = int(number)
            self._values.append(values_ns[numbers == number])

    def close(self) -> None:
        """Finish the bin that is open."""
        if self._values:
            ms = np.concatenate(self._values) / 1e6
            middle, high = np.percentile(ms, (50, 99), method="inverted_cdf")
            row = (float(ms.min()), float(middle), float(high), float(ms.max()))
            self.rows.append((self._open, len(ms), *(round(one, 4) for one in row)))  # type: ignore[arg-type]
        self._values = []


@dataclass(slots=True)
class SeriesDigest:
    """One series of one run.

    Attributes:
        counts: int32, blocks × BUCKETS.
        maxima_ns: exact maximum of each block, -1 where it is empty.
        negative: durations below 0, which a clock or a stamp must answer for.
    """

    counts: Counts
    maxima_ns: Ints
    course: Course
    negative: int = 0

    @classmethod
    def empty(cls, blocks: int, bins: int) -> "SeriesDigest":
        """Of nothing yet."""
        return cls(np.zeros((blocks, BUCKETS), np.int32), np.full(blocks, -1, np.int64), Course(bins))


class RunDigest:
    """All series of one run, from ``begin_ns`` to ``end_ns``; what lies outside is left out."""

    def __init__(self, begin_ns: int, end_ns: int) -> None:
        self.begin_ns, self.end_ns = begin_ns, max(end_ns, begin_ns + 1)
        self.blocks = block_count(self.duration_s)
        self.bins = min(MOST_BINS, max(FEWEST_BINS, int(self.duration_s * BINS_PER_S)))
        self.series: dict[str, SeriesDigest] = {}

    @property
    def duration_s(self) -> float:
        """Length of the window."""
        return (self.end_ns - self.begin_ns) / 1e9

    def add(self, name: str, values: Values) -> None:
        """Take the next durations of a series, in the order of time."""
        inside = (values.at_ns >= self.begin_ns) & (values.at_ns <= self.end_ns)
        at_ns, values_ns = values.at_ns[inside], values.value_ns[inside]
        if not len(at_ns):
            return
        digest = self.series.setdefault(name, SeriesDigest.empty(self.blocks, self.bins))
        blocks = self._places(at_ns, self.blocks)
        flat = np.bincount(blocks * BUCKETS + buckets_of(values_ns), minlength=self.blocks * BUCKETS)
        digest.counts += flat.reshape(self.blocks, BUCKETS).astype(np.int32)
        np.maximum.at(digest.maxima_ns, blocks, np.maximum(values_ns, 0))
        digest.negative += int(np.count_nonzero(values_ns < 0))
        digest.course.add(self._places(at_ns, digest.course.bins), values_ns)

    def _places(self, at_ns: Ints, parts: int) -> Ints:
        """In which of ``parts`` even parts of the window each time lies."""
        return np.minimum((at_ns - self.begin_ns) * parts // (self.end_ns - self.begin_ns), parts - 1)

    def close(self) -> None:
        """No more will come."""
        for digest in self.series.values():
            digest.course.close()
