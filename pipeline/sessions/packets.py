"""A packet of a source as it came, on its way from capture to the record process, which copies it into a file.

Separate from the wire of frames, which has nothing compressed in it. A packet is named by when it was read
(``packet_ns``, monotonic): a frame that was decoded from it carries the same number, so that recorded video and
recorded masks find each other. A key packet brings along what describes its stream (``stream``: the header of a NUT
file, FFmpeg's own container, which holds every codec), so that one who comes late needs nothing from before.

Body of a PACKET: source, loop, packet_ns, number, pts, dts, duration, time base, whether a key packet, length of
``stream``, ``stream``. The packet itself is the payload.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..frame import FrameKey, SizeHW
from ..wire import WireError

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_PACKET = struct.Struct("<IIqQqqqqqBI")
_LONGEST_STREAM = 1 << 20
_STARTS = {
    "h264": (0x1F, (5, 7)),
    "hevc": (0x7E, (32, 34, 36, 38, 40, 42, 64)),
    "mpeg2video": (0xFF, (0xB3,)),
    "mpeg1video": (0xFF, (0xB3,)),
}
"""By codec, which bits of the byte behind a start code tell what follows, and what of it a decoder can begin at: an IDR
picture or parameters (of HEVC types 16 to 21 and 32, shifted by one), a sequence header."""
_LOOKED_THROUGH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SourcePacket:
    """One packet. ``number`` counts them in capture: where it leaves one out, one is missing. ``stream`` is set for
    key packets only; ``pts``, ``dts`` and ``duration`` count ``time_base`` units."""

    source_id: int
    loop: int
    packet_ns: int
    number: int
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_key: bool
    stream: bytes
    data: bytes

    @property
    def key(self) -> FrameKey:
        """What orders packets, as a frame's key orders frames."""
        return FrameKey(self.source_id, self.loop, self.packet_ns)

    def pack(self) -> bytes:
        """The body of a PACKET."""
        base = self.time_base
        times = (self.pts, self.dts, self.duration, base.numerator, base.denominator)
        name = (self.source_id, self.loop, self.packet_ns, self.number)
        return _PACKET.pack(*name, *times, self.is_key, len(self.stream)) + self.stream


def unpack_packet(body: bytes, payload: bytes | None) -> SourcePacket:
    """Undo ``SourcePacket.pack``; raises WireError."""
    if len(body) < _PACKET.size:
        raise WireError(f"packet: {len(body)} bytes; expected at least {_PACKET.size}")
    fields = _PACKET.unpack_from(body)
    source_id, loop, packet_ns, number, pts, dts, duration, numerator, denominator, is_key, length = fields
    stream = body[_PACKET.size :]
    if numerator <= 0 or denominator <= 0:
        raise WireError(f"time base: {numerator}/{denominator}; expected a positive fraction")
    if len(stream) != length or length > _LONGEST_STREAM or not payload:
        raise WireError(f"packet: {len(stream)} bytes of stream; expected {length}, and data")
    time_base = Fraction(numerator, denominator)
    return SourcePacket(
        source_id, loop, packet_ns, number, pts, dts, duration, time_base, bool(is_key), stream, payload
    )


def describe_stream(stream: "VideoStream") -> bytes:
    """What ``open_described`` makes a template of: a NUT file of nothing but the header; raises FFmpegError."""
    return _nut_header(lambda container: container.add_stream_from_template(stream))


def describe_mjpeg(size_hw: SizeHW) -> bytes:
    """The same for a series of JPEG pictures, which no container has described."""
    height, width = size_hw
    return _nut_header(lambda container: container.add_mux_stream("mjpeg", width=width, height=height))


def _nut_header(add_stream: "Callable[[OutputContainer], Any]") -> bytes:
    import av
    from av.packet import Packet

    file = io.BytesIO()
    with av.open(file, "w", format="nut") as container:
        nothing = Packet(b"\0")  # without one the header is not read back
        nothing.stream, nothing.time_base = add_stream(container), Fraction(1, 1000)
        nothing.pts = nothing.dts = 0
        nothing.is_keyframe = True
        container.mux(nothing)
    return file.getvalue()


def open_described(stream: bytes) -> "InputContainer":
    """A container whose first video stream is the one described; raises FFmpegError."""
    import av

    opened: Any = av.open(io.BytesIO(stream), format="nut")
    container: InputContainer = opened
    return container


def is_key(packet: "Packet[VideoStream]", codec: str) -> bool:
    """Whether decoding can begin here; also where the demuxer leaves that to a parser that is switched off."""
    if packet.is_keyframe:
        return True
    if codec not in _STARTS:
        return False
    bits, starts = _STARTS[codec]
    data = bytes(memoryview(packet)[:_LOOKED_THROUGH_BYTES])
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        if data[at + 3] & bits in starts:
            return True
        at = data.find(b"\0\0\1", at + 3)
    return False
