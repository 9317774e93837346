"""Live pictures through FFmpeg: RTSP, SRT, UDP and RTP streams, an X11 screen (``x11grab::0``), a filter graph
(``lavfi:testsrc2``), and capture devices where our own reader is not wanted.

Separate from reading (``stream_reader.py``) and from coming back after a loss (``reconnect.py``): here is how each kind
is opened for the least delay. Credentials in an address reach FFmpeg and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer

from endostream.configs.errors import SourceLost, SourceMissing

from ..frame import SourcePicture
from ..source import SourceInfo, SourceOptions
from .live_address import live_kind, redacted
from .live_hints import stream_problem
from .live_options import LiveOptions
from .stream_reader import Decoded, StreamReader, reason_of

_STEP_S = 0.05
_JOIN_S = 0.3
_CARRY_MPEG_TS = ("udp", "rtp", "srt", "tcp")
_MAY_PASS = (av.ExitError, av.InvalidDataError, av.TimeoutError, av.EOFError, av.BlockingIOError)
"""What opening may fail with although the address is right: nothing came in time, or what came could not be read."""


@dataclass(frozen=True, slots=True)
class _Opening:
    """What FFmpeg is to open, and how."""

    url: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)


class StreamSource:
    """A stream, screen, filter graph or device read by FFmpeg.

    Raises:
        SourceMissing: the address cannot be opened: refused, not found, not permitted, unknown.
        SourceLost: nothing came from it in ``live.open_timeout_s``.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        extra = (options or SourceOptions()).extra
        self._live = LiveOptions.from_extra(extra)
        self._address = address
        self._name = f"source: {redacted(address)}"
        self._kind = kind = live_kind(address) or "stream"
        self._opening = _opening(kind, address, self._live)
        self._reader = StreamReader(self._name, self._open, kind == "v4l2", extra.get("packets"))
        self._reader.start()
        try:
            self._first: Decoded | None = self._wait_for_the_first()
        except BaseException:
            self.close()
            raise
        self.info = self._describe(kind, self._first.picture)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> InputContainer:
        settings, opening = self._live.settings, self._opening
        extra = {name: str(value) for name, value in settings.stream_options.items()}
        try:
            return av.open(
                opening.url,
                format=opening.format,
                options={**opening.options, **extra},
                timeout=(settings.open_timeout_s, settings.silence_s),
                metadata_errors="replace",
            )
        except _MAY_PASS as error:
            raise SourceLost(f"{self._name}; {reason_of(error)}") from error
        except av.ProtocolNotFoundError as error:
            scheme = opening.url.partition(":")[0]
            raise SourceMissing(
                f"{self._name}; PyAV's FFmpeg is built without {scheme}. "
                f"Try: pipe:'ffmpeg -i {scheme}://… -f yuv4mpegpipe -'"
            ) from error
        except av.FFmpegError as error:
            reason = reason_of(error).lower()
            problem = stream_problem(self._kind, self._address, opening.url, reason)
            raise SourceMissing(f"{self._name}; {problem}") from error
        except ValueError as error:
            raise SourceMissing(f"{self._name}; cannot be opened ({redacted(str(error))})") from error

    def _wait_for_the_first(self) -> Decoded:
        settings = self._live.settings
        steps = round((settings.open_timeout_s + settings.silence_s) / _STEP_S)
        for _ in range(steps):
            decoded = self._reader.latest.take(_STEP_S)
            if decoded is not None:
                return decoded
            if self._live.stopping():
                raise SourceLost(f"{self._name}; no picture yet")
        raise SourceLost(f"{self._name}; no picture in {settings.open_timeout_s:g} s")

    def _describe(self, kind: str, picture: av.VideoFrame) -> SourceInfo:
        from endostream.replay.colour import colour_of

        fps = self._reader.fps
        colour = colour_of(picture)
        return SourceInfo(
            address=self._address,
            kind=kind,
            size_hw=(picture.height, picture.width),
            fps=fps or self._live.settings.rate,
            time_base=picture.time_base or Fraction(1, 1_000_000),
            codec=self._reader.codec,
            pixel_format=picture.format.name,
            colour_matrix=colour.matrix,
            colour_range=colour.range,
            assumed=(*colour.assumed, *(() if fps else ("fps",))),
            live=True,
        )

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures as they come; raises SourceLost when none do or the sender ends."""
        from endostream.replay.colour import BgrConverter

        converter = BgrConverter()
        silent_s = 0.0
        while not self._live.stopping():
            first, self._first = self._first, None
            decoded = self._reader.latest.take(_STEP_S, first)
            if decoded is None:
                silent_s += _STEP_S
                if silent_s > self._live.settings.silence_s:
                    raise SourceLost(f"{self._name}; no picture for {self._live.settings.silence_s:g} s")
                continue
            silent_s = 0.0
            picture = decoded.picture
            # Without a time of its own a picture has that of its arrival.
            known = picture.pts is not None and picture.time_base is not None
            pts = picture.pts if known else decoded.arrival_ns
            time_base = picture.time_base if known else Fraction(1, 1_000_000_000)
            assert pts is not None
            assert time_base is not None
            fill = partial(converter.fill, picture)
            size_hw = (picture.height, picture.width)
            arrived_ns, packet_ns = decoded.arrival_ns, decoded.packet_ns
            yield SourcePicture(decoded.seq, pts, time_base, size_hw, fill, arrived_ns, packet_ns=packet_ns)

    @property
    def faults(self) -> dict[str, int]:
        """``superseded`` (a newer picture was there), ``corrupt_packet`` (lost), ``damaged_packet`` (bytes of it are
        missing), ``corrupt_picture`` (shown)."""
        return dict(self._reader.faults)

    def close(self) -> None:
        """Have the reading thread end; one that hangs in FFmpeg ends by its time-outs."""
        self._reader.stop()
        self._reader.join(_JOIN_S)


def _opening(kind: str, address: str, live: LiveOptions) -> _Opening:
    settings, rest = live.settings, address.partition(":")[2]
    grabbing: dict[str, str] = {}
    if settings.size_hw is not None:
        grabbing["video_size"] = f"{settings.width}x{settings.height}"
    if settings.rate is not None:
        grabbing["framerate"] = str(settings.rate)
    if kind == "lavfi":  # a filter graph runs as fast as it can unless it is held to the clock
        return _Opening(rest if "realtime" in rest else f"{rest},realtime", "lavfi")
    if kind == "x11grab":
        return _Opening(rest, "x11grab", {"draw_mouse": "0", **grabbing})
    if kind == "v4l2":
        names = {"bgr": "bgr24", "rgb": "rgb24", "yuv420": "yuv420p", "yuyv": "yuyv422", "uyvy": "uyvy422"}
        names |= {"nv12": "nv12", "grey": "gray", "mjpeg": "mjpeg"}
        if settings.pixel_format in names:
            grabbing["input_format"] = names[settings.pixel_format]
        return _Opening(address.removeprefix("v4l2:"), "v4l2", grabbing)
    scheme = address.partition(":")[0]
    # No queue for reordering, no picture kept for analysing, and no rate estimated from twenty pictures.
    options = {"fflags": "nobuffer", "fpsprobesize": "0", "max_delay": "0"}
    options |= {"probesize": "1000000", "analyzeduration": "1000000"}
    if scheme in _CARRY_MPEG_TS and not settings.find_pictures:
        # FFmpeg's parser knows a picture's end by the next one's begin; a PES packet ends of itself.
        options["fflags"] = "nobuffer+noparse+nofillin"
    if scheme in ("rtsp", "rtsps"):
        options |= {"rtsp_transport": settings.rtsp_transport, "reorder_queue_size": "0"}
    elif scheme == "udp":
        options |= {"overrun_nonfatal": "1", "fifo_size": "50000"}
    elif scheme == "rtp":
        options |= {"reorder_queue_size": "0", "protocol_whitelist": "rtp,udp"}
    return _Opening(address, None, options)
