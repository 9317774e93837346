"""From the times of frames to the times in a video file: kept as they are, and always growing.

A file has one time base and one growing series of times; a run may play several sources, loop them, and
meet streams whose times repeat or jump back. Separate from the sink, because this is arithmetic on integers
that tests can follow. It knows no codec and no container.
"""

from fractions import Fraction

from ..frame import Frame


class VideoTimes:
    """Times of one file, in units of ``tick_s``.

    The first source keeps its own times. Another source or loop goes on one frame period after the last one.
    A time that does not grow is moved to the next tick (``nudged``); a jump back by a second or more is taken
    for a new beginning (``restarted``).
    """

    def __init__(self, tick_s: Fraction, period_s: Fraction, from_zero: bool = False) -> None:
        """Start a file.

        Args:
            tick_s: unit of the times, seconds.
            period_s: nominal time between frames, seconds.
            from_zero: whether the first frame gets time 0, for containers without a start time.
        """
        self.tick_s = tick_s
        self.period_ticks = max(1, round(period_s / tick_s))
        self.nudged = 0
        self.restarted = 0
        self._from_zero = from_zero
        self._segment: tuple[int, int] | None = None
        self._offset = 0
        self._last = 0

    def next_ticks(self, frame: Frame) -> int:
        """Time of ``frame`` in the file, in ticks, larger than all before."""
        own = round(frame.pts * frame.time_base / self.tick_s)
        segment = (frame.key.source_id, frame.key.loop)
        if self._segment is None:
            self._offset = -own if self._from_zero else 0
            self._last = own + self._offset - 1
        elif segment != self._segment:
            self._follow_on(own)
        self._segment = segment
        if own + self._offset <= self._last:
            self._mend(own)
        else:
            self._last = own + self._offset
        return self._last

    def _follow_on(self, own: int) -> None:
        """Let the time ``own`` come one frame period after the last frame."""
        self._offset = self._last + self.period_ticks - own

    def _mend(self, own: int) -> None:
        if (self._last - own - self._offset) * self.tick_s < 1:
            self.nudged += 1
            self._last += 1
            return
        self.restarted += 1
        self._follow_on(own)
        self._last += self.period_ticks
