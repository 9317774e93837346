"""From a source's reader to the record process: its packets as they come, named so that their frames can be found.

Separate from the capture stage, which knows only frames. A source that has packets is given a ``PacketTap`` and asks it
for the name of each (``take``); 0 means that this source's packets are not copied, and its frames are encoded instead.
Sources call from their own threads; the link is served by capture's main thread. As long as nobody records, the
packets since the last key frame are kept, so that a recording begins with a picture and not with a wait.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from ..host import StageHost
from ..link import LinkWriter
from ..wire import Kind
from .packets import SourcePacket, describe_mjpeg, describe_stream, is_key

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

LINK = "capture-record"
_WINDOW_PACKETS = 512
_MOST_KEPT = 512
_MOST_KEPT_BYTES = 64 << 20
_UNCOMPRESSED = ("rawvideo", "wrapped_avframe")


class PacketTap:
    """Takes the packets of one source that was opened once; used from one thread, the source's.

    Args:
        source_id: of the source.
        loop: how often it was played before.
        number: gives the next packet's number; called once more at each beginning, so that it shows as a gap.
        put: takes each packet.
    """

    def __init__(
        self, source_id: int, loop: int, number: Callable[[], int], put: Callable[[SourcePacket], None]
    ) -> None:
        self._source_id = source_id
        self._loop = loop
        self._number = number
        self._put = put
        self._stream = b""
        self._last_ns = 0
        self._known: tuple[object, ...] = ()

    def take(self, packet: "Packet[VideoStream]", packet_ns: int = 0) -> int:
        """Copy ``packet`` to whoever records; returns what it is named by, 0 if this source's are not copied.

        ``packet_ns`` is when it was read, 0 for now.
        """
        if not packet.size:
            return 0
        stream, context = packet.stream, packet.stream.codec_context
        codec = context.name
        known = (id(stream), codec, context.width, context.height, context.extradata)
        if known != self._known:  # also after it was lost and opened again
            self._begin(known, self._described(packet, stream, codec))
        if not self._stream:
            return 0
        self._last_ns = max(packet_ns or time.monotonic_ns(), self._last_ns + 1)
        dts = packet.dts if packet.dts is not None else packet.pts
        pts = packet.pts if packet.pts is not None else dts
        time_base = packet.time_base or stream.time_base
        if pts is None or dts is None or time_base is None:
            return self._last_ns  # of no time: left out, which its number will tell
        key = is_key(packet, codec)
        self._send(bytes(packet), (pts, dts, packet.duration or 0), time_base, key)
        return self._last_ns

    def _begin(self, known: tuple[object, ...], stream: bytes) -> None:
        self._known, self._stream = known, stream
        self._number()

    def _described(self, packet: "Packet[VideoStream]", stream: "VideoStream", codec: str) -> bytes:
        """What describes the stream, empty if it cannot be copied."""
        # AVI holds no presentation times; what FFmpeg makes up for them is in the wrong order with B frames.
        guessed = packet.pts is None or "avi" in stream.container.format.name.split(",")
        timeless = guessed and (packet.dts is None or bool(stream.codec_context.has_b_frames))
        if codec in _UNCOMPRESSED or timeless:
            return b""
        import av

        try:
            return describe_stream(stream)
        except (av.FFmpegError, ValueError):
            return b""

    def take_jpeg(self, data: bytes, size_hw: tuple[int, int], captured_ns: int) -> int:
        """The same for a JPEG picture of a capture device."""
        if self._known != size_hw:
            self._begin(size_hw, describe_mjpeg(size_hw))
        self._last_ns = max(captured_ns, self._last_ns + 1)
        self._send(data, (captured_ns, captured_ns, 0), Fraction(1, 1_000_000_000), True)
        return self._last_ns

    def _send(self, data: bytes, times: tuple[int, int, int], time_base: Fraction, key: bool) -> None:
        stream = self._stream if key else b""
        name = (self._source_id, self._loop, self._last_ns, self._number())
        self._put(SourcePacket(*name, *times, time_base, key, stream, data))


class PacketOutlet:
    """Capture's end of the link for packets.

    Args:
        host: capture's surroundings.
    """

    def __init__(self, host: StageHost) -> None:
        self._host = host
        settings = host.config.record
        self._taps = bool(host.spec.session) and settings.raw == "copy" and not settings.blank_outside_view
        self._wanted = host.spec.record_at_start
        self._kept: deque[SourcePacket] = deque()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._count = 0
        self._writer: LinkWriter | None = None

    def tap(self, source_id: int, loop: int) -> PacketTap | None:
        """What a source is given; None where packets are not copied."""
        return PacketTap(source_id, loop, self._next_number, self._put) if self._taps else None

    def _next_number(self) -> int:
        self._count += 1
        return self._count

    def _put(self, packet: SourcePacket) -> None:
        with self._lock:
            if packet.is_key and not self._wanted:
                self._forget()
            if self._writer is None and self._overfull():
                self._forget()
            self._kept.append(packet)
            self._kept_bytes += len(packet.data)

    def _overfull(self) -> bool:
        """Whether, in live mode, more waits than may; what is sent then is dropped by the link, and counted."""
        too_many = len(self._kept) > _MOST_KEPT or self._kept_bytes > _MOST_KEPT_BYTES
        return too_many and not self._host.spec.every_frame

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    def open(self) -> None:
        """From now on somebody records."""
        if self._writer is None and self._taps:
            host = self._host
            self._wanted = True
            self._writer = LinkWriter(
                host.context, host.endpoint(LINK), LINK, _WINDOW_PACKETS, host.board, host.clock
            )
            host.watch(self._writer.socket)

    def service(self) -> None:
        """Send what came; in every-frame mode again what died with the record process, and never more than it takes."""
        writer = self._writer
        if writer is None:
            return
        writer.service()
        every_frame = self._host.spec.every_frame
        lost = [token for token in writer.take_lost() if isinstance(token, SourcePacket)]
        with self._lock:
            if every_frame:
                self._kept.extendleft(reversed(lost))
            while self._kept and (writer.can_send or self._overfull()):
                packet = self._kept.popleft()
                self._kept_bytes -= len(packet.data)
                writer.send(Kind.PACKET, packet.pack(), packet.data, token=packet)

    @property
    def is_heard(self) -> bool:
        """Whether the record process listens, or nobody is to."""
        return self._writer is None or self._writer.connected

    @property
    def is_empty(self) -> bool:
        """Whether all that came was sent, and in every-frame mode written."""
        writer = self._writer
        if writer is None:
            return True
        return not self._kept and not (self._host.spec.every_frame and writer.under_way)

    def close(self) -> None:
        """Close the link."""
        if self._writer is not None:
            self._writer.close()
