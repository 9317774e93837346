"""Reads and decodes a live stream in a thread of its own, and keeps the newest picture ready.

Separate from the source, so that FFmpeg's blocking calls never keep a run from ending, and so that a sender is always
read as fast as it sends: what nobody took in time is replaced by what is newer. The time of a picture is the arrival
of its packet: decoding counts as delay.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from endostream.configs.errors import SourceLost, SourceMissing

from ..sessions.packet_outlet import PacketTap
from .latest import Latest

_ARRIVALS_KEPT = 64
_ERRORS_IN_A_ROW = 250
"""Packets that do not decode, one after the other, until the stream is taken for garbage: ten seconds at 25 fps."""
MAX_PICTURE_PX = 8192 * 8192
_MIN_FPS, _MAX_FPS = Fraction(1), Fraction(240)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, its number in the stream from 0, the monotonic arrival of its packet, and what names that, 0 if it is
    not copied."""

    picture: av.VideoFrame
    seq: int
    arrival_ns: int
    packet_ns: int = 0


class StreamReader(threading.Thread):
    """Opens the stream with ``opened`` and reads until ``stop`` is called or it ends.

    Attributes:
        latest: the newest picture; ends with SourceMissing if opening failed for good, else with SourceLost.
        faults: ``superseded``, ``corrupt_packet``, ``damaged_packet`` (bytes of it are missing), ``corrupt_picture``
            by number.
        fps, codec: of the stream, once a picture is there.
        tap: takes every packet as it comes, for recording.
        driver_clock: whether packet times are the machine's monotonic clock (a capture device read by FFmpeg).
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], InputContainer],
        driver_clock: bool = False,
        tap: PacketTap | None = None,
    ) -> None:
        super().__init__(name="stream", daemon=True)
        self.latest: Latest[Decoded] = Latest()
        self.faults: Counter[str] = Counter()
        self.fps: Fraction | None = None
        self.codec = ""
        self._name = name
        self._opened = opened
        self._driver_clock = driver_clock
        self._tap = tap
        self._copied = False
        self._arrivals: dict[int, int] = {}
        self._stopped = threading.Event()
        self._seq = 0

    def stop(self) -> None:
        """Ask the thread to end; it does with the next packet or time-out."""
        self._stopped.set()

    def run(self) -> None:
        """Read until the end, and say why that was."""
        try:
            with self._opened() as container:
                self._read(container)
            self.latest.end(SourceLost(f"{self._name}; the sender has ended"))
        except (SourceMissing, SourceLost) as error:
            self.latest.end(error)
        except av.FFmpegError as error:
            self.latest.end(SourceLost(f"{self._name}; {reason_of(error)}"))
        except IndexError:  # PyAV knows only the streams that were there when it was opened
            self.latest.end(SourceLost(f"{self._name}; a stream was added to it"))
        except Exception as error:
            self.latest.end(SourceLost(f"{self._name}; {type(error).__name__}: {error}"))

    def _read(self, container: InputContainer) -> None:
        if not container.streams.video:
            raise SourceLost(f"{self._name}; carries no video")
        stream = container.streams.video[0]
        codec = stream.codec_context
        if codec is None:
            raise SourceMissing(f"{self._name}; FFmpeg has no decoder for its video")
        codec.options = {"max_pixels": str(MAX_PICTURE_PX)}
        codec.flags |= Flags.low_delay
        stream.thread_type = "SLICE"  # threads across pictures would hold as many pictures back
        codec.thread_count = 2
        errors = 0
        for packet in container.demux(stream):
            arrival_ns = self._arrival(packet)
            if packet.is_corrupt:
                self.faults["damaged_packet"] += 1
            if self._stopped.is_set():
                return
            if self._tap is not None:
                self._copied = bool(self._tap.take(packet, arrival_ns))
            try:
                pictures = stream.decode(packet)
            except av.EOFError:
                continue
            except av.FFmpegError as error:
                self.faults["corrupt_packet"] += 1
                self._seq += 1
                errors += 1
                if errors > _ERRORS_IN_A_ROW:
                    raise SourceLost(
                        f"{self._name}; nothing in it can be decoded ({reason_of(error)})"
                    ) from error
                continue
            if pictures and not self.codec:
                self._describe(stream)
            for picture in pictures:
                errors = 0
                self._offer(picture, arrival_ns)

    def _describe(self, stream: VideoStream) -> None:
        """Note what the stream is: nobody else may ask it, since it ends with this thread."""
        # Guessed last: of H.264 it is at times the rate of fields.
        rates = (stream.average_rate, stream.codec_context.framerate, stream.guessed_rate)
        self.fps = next((rate for rate in rates if rate is not None and _MIN_FPS <= rate <= _MAX_FPS), None)
        self.codec = stream.codec_context.name

    def _arrival(self, packet: "Packet[VideoStream]") -> int:
        """When the packet came, noted under its time, since a decoder may give pictures later."""
        now_ns = time.monotonic_ns()
        if packet.pts is None:
            return now_ns
        if self._driver_clock and packet.time_base is not None:
            sent_ns = int(packet.pts * packet.time_base * 1_000_000_000)
            if 0 <= now_ns - sent_ns < 1_000_000_000:
                now_ns = sent_ns
        self._arrivals[packet.pts] = now_ns
        if len(self._arrivals) > _ARRIVALS_KEPT:
            del self._arrivals[next(iter(self._arrivals))]
        return now_ns

    def _offer(self, picture: av.VideoFrame, arrival_ns: int) -> None:
        if picture.is_corrupt:
            self.faults["corrupt_picture"] += 1
        if picture.pts is not None:
            arrival_ns = self._arrivals.pop(picture.pts, arrival_ns)
        packet_ns = arrival_ns if self._copied else 0
        if self.latest.put(Decoded(picture, self._seq, arrival_ns, packet_ns)) is not None:
            self.faults["superseded"] += 1
        self._seq += 1


def reason_of(error: av.FFmpegError) -> str:
    """FFmpeg's words for an error, without the address it was about."""
    if isinstance(error, av.ExitError):
        return "nothing came in time"
    return error.strerror or type(error).__name__
