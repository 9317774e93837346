"""Times in a session's raw video: packets keep their own, behind what was before; pictures have the overlay's.

Separate from the recorder, because this is arithmetic on integers that tests can follow. It knows no container.
"""

from fractions import Fraction

from .packets import SourcePacket

_MS = Fraction(1, 1000)
_LONGEST_STEP_MS = 10_000
_LARGEST_STEP_BACK_MS = 1_000
"""A step in a sender's times beyond these is a new beginning, not a gap."""
_USUAL_PERIOD_MS = 40


class RawTimes:
    """Times of one part, milliseconds from its first packet or picture, growing."""

    def __init__(self) -> None:
        self._origin: tuple[int, int] | None = None
        self._offset_ms = 0
        self._last_ms = -1
        self._last_ns = 0

    def of_frame(self, time_ms: int) -> int:
        """Time of a picture that is encoded, shown at ``time_ms`` in the overlay's video."""
        self._last_ms = max(time_ms, self._last_ms + 1)
        return self._last_ms

    def of_packet(self, packet: SourcePacket, live: bool) -> tuple[int, int]:
        """Presentation and decoding time of a packet. In a live feed a new beginning leaves the gap there was."""
        dts_ms, pts_ms = (
            round(packet.dts * packet.time_base / _MS),
            round(packet.pts * packet.time_base / _MS),
        )
        origin = (packet.source_id, packet.loop)
        step_ms = dts_ms + self._offset_ms - self._last_ms
        if origin != self._origin or not -_LARGEST_STEP_BACK_MS <= step_ms <= _LONGEST_STEP_MS:
            self._offset_ms = self._next_ms(packet, live) - dts_ms
        self._origin, self._last_ns = origin, packet.packet_ns
        self._last_ms = max(self._last_ms, dts_ms + self._offset_ms)
        return max(0, pts_ms + self._offset_ms), self._last_ms

    def _next_ms(self, packet: SourcePacket, live: bool) -> int:
        if self._last_ms < 0:
            return 0
        period_ms = round(packet.duration * packet.time_base / _MS) or _USUAL_PERIOD_MS
        silent_ms = (packet.packet_ns - self._last_ns) // 1_000_000 if live and self._last_ns else 0
        return self._last_ms + max(period_ms, silent_ms)
