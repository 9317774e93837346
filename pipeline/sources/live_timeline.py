"""The presentation times of a live source: its own regular times, laid onto the machine's clock.

Separate from the sources, so that reconnecting, a sender that starts its times anew, and clocks that drift are
dealt with in one place. Arrival alone would put the network's jitter into every recording; the sender's times alone
would jump with each reconnect.
"""

from fractions import Fraction

TIME_BASE = Fraction(1, 90_000)
_NS_A_TICK = 1_000_000_000 / 90_000
JUMP_NS = 500_000_000
"""A sender's clock that is further off than this has jumped; the times are laid onto the arrival again."""
SLEW_NS = 100_000
"""Correction of a drifting clock, each picture: 3 ms/s at 30 fps, where quartz drifts by 0.05."""


class LiveTimeline:
    """Makes growing pts (``TIME_BASE``) from a sender's times and arrivals.

    Args:
        origin_ns: monotonic time of pts 0; None for the first picture's arrival.

    Attributes:
        jumps: how often the sender's clock jumped.
    """

    def __init__(self, origin_ns: int | None = None) -> None:
        self.jumps = 0
        self._origin_ns = origin_ns
        self._offset_ns: int | None = None
        self._last_pts = -1

    def restart(self) -> None:
        """The sender begins anew: its next time is laid onto its arrival."""
        self._offset_ns = None

    def pts(self, sent_ns: int, arrival_ns: int) -> int:
        """Time of a picture that the sender stamped ``sent_ns`` (from any zero) and that came at ``arrival_ns``."""
        if self._origin_ns is None:
            self._origin_ns = arrival_ns
        elapsed_ns = arrival_ns - self._origin_ns
        if self._offset_ns is None:
            self._offset_ns = elapsed_ns - sent_ns
        off_ns = elapsed_ns - sent_ns - self._offset_ns
        if abs(off_ns) > JUMP_NS:
            self.jumps += 1
            self._offset_ns += off_ns
        else:
            self._offset_ns += max(-SLEW_NS, min(SLEW_NS, off_ns))
        pts = round((sent_ns + self._offset_ns) / _NS_A_TICK)
        self._last_pts = max(pts, self._last_pts + 1)
        return self._last_pts
