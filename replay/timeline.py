"""Times a recording can be played by: true ones kept, missing, backward and absurd ones mended and counted.

Separate from decoding, so that it can be tested on plain numbers. AVI stores no presentation times at all:
with B-frames FFmpeg hands out the right set of times in the wrong order, which ``in_display_order`` puts
right. It does not
smooth: a variable frame rate stays one.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class HasPts(Protocol):
    """Anything with a presentation time, or None where it has none."""

    @property
    def pts(self) -> int | None:
        """In units of the stream's time base."""


T = TypeVar("T", bound=HasPts)


def in_display_order(pictures: Iterable[T], look_ahead: int) -> Iterator[tuple[T, int | None]]:
    """Pair each picture with its time, the times of ``look_ahead`` + 1 pictures being sorted.

    Args:
        pictures: as the decoder yields them, that is in display order, whatever their times say.
        look_ahead: pictures held back, 0 where the times can be trusted.

    Yields:
        The pictures in the order they came, each with the earliest time not given out, None if it has none.
    """
    waiting: deque[T] = deque()
    times: list[int] = []
    for picture in pictures:
        waiting.append(picture)
        if picture.pts is not None:
            heapq.heappush(times, picture.pts)
        if len(waiting) > look_ahead:
            yield _release(waiting, times)
    while waiting:
        yield _release(waiting, times)


def _release(waiting: deque[T], times: list[int]) -> tuple[T, int | None]:
    picture = waiting.popleft()
    return picture, None if picture.pts is None else heapq.heappop(times)


class Timeline:
    """Gives strictly increasing times.

    A single wrong time is replaced by the last one plus a frame; where two in a row are wrong, the stream has
    been cut or joined there, and all that follows is moved to go on without a hole.

    Args:
        step: pts units of a frame at the nominal rate, at least 1.
        longest_gap: pts units; a longer step forward counts as a fault too, or a damaged file would stand for
            hours.
        faults: where ``missing_pts``, ``backward_pts`` and ``pts_jump`` are counted.
    """

    def __init__(self, step: int, longest_gap: int, faults: Counter[str]) -> None:
        self._step = step
        self._longest_gap = max(longest_gap, 2 * step)
        self._faults = faults
        self._last: int | None = None
        self._offset = 0
        self._suspect: int | None = None

    def mend(self, pts: int | None) -> int:
        """The time to play the next picture at, in the same units; the first one is believed, 0 if
        missing."""
        if pts is None:
            self._faults["missing_pts"] += 1
            now = 0 if self._last is None else self._last + self._step
        elif self._last is None or 0 < pts + self._offset - self._last <= self._longest_gap:
            self._suspect = None
            now = pts + self._offset
        else:
            now = self._mend_wrong(pts, self._last)
        self._last = now
        return now

    def _mend_wrong(self, pts: int, last: int) -> int:
        self._faults["backward_pts" if pts + self._offset <= last else "pts_jump"] += 1
        if self._suspect is None or not 0 < pts - self._suspect <= self._longest_gap:
            self._suspect = pts
            return last + self._step
        now = last + pts - self._suspect
        self._offset = now - pts
        self._suspect = None
        return now
