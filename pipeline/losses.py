"""Which frames were lost on the way to the screen, and why, told along with the next frame that goes to the record
process.

Separate from the counters on the board, which say how many: a log of single frames must say which. It counts
nothing, and what is lost behind the last presented frame is in the counters only.
"""

from .frame import FrameKey, Lost
from .wire import FrameHeader

_MANY = 255
"""A gap of so many at the source stands for more too."""
_MOST_RANGES = 1000
"""Kept until a frame goes to the record process; further ones are not told one by one."""


class LossLog:
    """What was lost since the record process was last told.

    Args:
        expected: the frame that comes next if nothing is lost; after a restart, where the predecessor was.
    """

    def __init__(self, expected: FrameKey) -> None:
        self._expected = expected
        self._ranges: list[Lost] = []

    @property
    def pending(self) -> tuple[Lost, ...]:
        """What the record process does not know yet."""
        return tuple(self._ranges)

    def told(self) -> None:
        """The record process knows."""
        self._ranges.clear()

    def received(self, header: FrameHeader) -> None:
        """A frame came: those before it that did not come were lost at the source or on the link from capture."""
        key, expected = header.key, self._expected
        first = expected.seq if expected[:2] == key[:2] else 0
        missing = key.seq - first
        if missing >= 0:
            self._expected = key._replace(seq=key.seq + 1)
        if missing > 0:
            at_source = missing if header.gap >= _MANY else min(header.gap, missing)
            self._add(Lost(key._replace(seq=first), missing - at_source, "not_delivered"))
            self._add(Lost(key._replace(seq=key.seq - at_source), at_source, "lost_at_source"))

    def lost(self, key: FrameKey, cause: str) -> None:
        """One frame that came was dropped."""
        self._add(Lost(key, 1, cause))

    def _add(self, lost: Lost) -> None:
        if not lost.frames:
            return
        last = self._ranges[-1] if self._ranges else None
        if last is not None and last.cause == lost.cause and _follows(last, lost):
            self._ranges[-1] = last._replace(frames=last.frames + lost.frames)
        elif len(self._ranges) < _MOST_RANGES:
            self._ranges.append(lost)


def _follows(last: Lost, lost: Lost) -> bool:
    return last.key._replace(seq=last.key.seq + last.frames) == lost.key
