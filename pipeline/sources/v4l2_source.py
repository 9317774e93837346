"""A capture card or USB grabber as a source: ``/dev/video0`` or ``v4l2:/dev/video0``.

Separate from the device (``v4l2_device.py``), from what to capture in (``v4l2_modes.py``), and from coming back after
a loss (``reconnect.py``). Of several filled buffers only the newest is shown; those left out are gaps in ``seq`` and
counted, and so are pictures that the driver lost. Interlaced pictures are shown as they come, both fields at once.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

import av

from endostream.configs.errors import ConfigError, SourceLost

from ..frame import ImageBgr, SizeHW, SourcePicture
from ..sessions.packet_outlet import PacketTap
from ..source import SourceInfo, SourceOptions
from . import v4l2
from .convert import Bytes, RawConverter, RawFormat
from .live_options import LiveOptions
from .v4l2_device import Filled, V4l2Device
from .v4l2_modes import READABLE, Choice, Wanted, choose

TIME_BASE = Fraction(1, 1_000_000_000)
_WAIT_MS = 100.0
"""Longest wait before it is asked whether to stop."""
_OLDEST_NS = 1_000_000_000
_NEWEST_NS = 2_000_000
"""A driver's time is believed between a second old and 2 ms ahead."""
_ASSUMED_FPS = 25
_MATRICES = {
    v4l2.YCBCR_601: "bt601",
    v4l2.YCBCR_XV601: "bt601",
    v4l2.YCBCR_709: "bt709",
    v4l2.YCBCR_XV709: "bt709",
    v4l2.YCBCR_BT2020: "bt2020",
}
_WANTED = {"bgr": "BGR3", "rgb": "RGB3", "nv12": "NV12", "yuv420": "YU12", "yuyv": "YUYV"}
_WANTED |= {"uyvy": "UYVY", "grey": "GREY", "mjpeg": "MJPG"}


@dataclass(slots=True)
class _Count:
    """Where the driver's count of pictures stands."""

    seq: int = -1
    sequence: int | None = None


class V4l2Source:
    """A capture device as a source; iterates until the run is to stop.

    Pictures carry the driver's time where that is of the monotonic clock and can be true, else the time they were
    taken at. ``faults`` knows ``lost_by_driver``, ``superseded`` (a newer one was there), ``flagged_broken``,
    ``short_picture`` and ``corrupt_picture``; each of them is a gap in ``seq`` too.

    Raises:
        SourceMissing: no such device, no permission, in use, or none that captures.
        SourceLost: it is there but has no signal to capture.
        ConfigError: it does not offer what the settings ask for.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        extra = (options or SourceOptions()).extra
        self._live = LiveOptions.from_extra(extra)
        self._tap: PacketTap | None = extra.get("packets")
        self._faults: Counter[str] = Counter()
        self._device = V4l2Device(address.removeprefix("v4l2:"))
        try:
            choice = self._choice()
            pix, fps = self._device.configure(choice)
            self._check_signal()
            self._size_hw: SizeHW = choice.size_hw
            self._reader = _picture_reader(choice, pix)
            self._device.start(self._live.settings.buffers)
        except ConfigError as error:
            self._device.close()
            raise type(error)(f"source: {self._device.path}; {error}") from error
        except BaseException:
            self._device.close()
            raise
        self.info = SourceInfo(
            address=address,
            kind="v4l2",
            size_hw=choice.size_hw,
            fps=fps,
            time_base=TIME_BASE,
            codec="mjpeg" if READABLE[choice.pixel_format] == "mjpeg" else "rawvideo",
            pixel_format=READABLE[choice.pixel_format],
            colour_matrix=self._reader.colour_matrix,
            colour_range=self._reader.colour_range,
            assumed=(*self._reader.assumed, *(() if fps else ("fps",))),
            live=True,
        )
        if pix.field in v4l2.FIELD_INTERLACED:
            self._live.log(f"source: {address}; is interlaced and shown as it comes", "info")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _choice(self) -> Choice:
        settings = self._live.settings
        wanted = Wanted(settings.size_hw, settings.rate, _WANTED.get(settings.pixel_format))
        return choose(
            self._device.modes(wanted.size_hw, wanted.fps), wanted, current_hw=self._device.current_hw()
        )

    def _check_signal(self) -> None:
        problem = self._device.input_problem()
        if problem:
            raise SourceLost(f"source: {self._device.path}; {problem}")

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures as they come; raises SourceLost when none do, or the device is gone."""
        self._flush()
        count = _Count()
        heard_ns = time.monotonic_ns()
        while not self._live.stopping():
            if not self._device.wait(_WAIT_MS):
                self._check_silence(time.monotonic_ns() - heard_ns)
                continue
            filled = self._newest(count)
            if filled is None:
                self._check_silence(time.monotonic_ns() - heard_ns)
                continue
            now_ns = time.monotonic_ns()
            arrival_ns = now_ns
            if filled.driver_ns is not None and -_NEWEST_NS <= now_ns - filled.driver_ns <= _OLDEST_NS:
                arrival_ns = min(filled.driver_ns, now_ns)
            if self._reader.read(filled.data):
                heard_ns = now_ns
                fill, packet_ns = self._reader.fill, 0
                if self._tap is not None and isinstance(self._reader, _JpegReader):
                    packet_ns = self._tap.take_jpeg(filled.data.tobytes(), self._size_hw, arrival_ns)
                yield SourcePicture(
                    count.seq, arrival_ns, TIME_BASE, self._size_hw, fill, arrival_ns, packet_ns=packet_ns
                )
                self._device.give_back(filled.index)
                continue
            self._faults[self._reader.problem] += 1
            self._device.give_back(filled.index)
            # Of garbage alone: opening it anew may mend that.
            self._check_silence(time.monotonic_ns() - heard_ns)

    def _flush(self) -> None:
        """Give back what was filled before anyone looked: it is old, and nobody has lost it."""
        while (filled := self._device.take()) is not None:
            self._device.give_back(filled.index)

    def _check_silence(self, silent_ns: int) -> None:
        if silent_ns > self._live.settings.silence_s * 1e9:
            reason = self._device.input_problem() or f"no picture for {self._live.settings.silence_s:g} s"
            raise SourceLost(f"source: {self._device.path}; {reason}")

    def _newest(self, count: _Count) -> Filled | None:
        """The newest sound buffer, the others given back; counts what is left out or was lost."""
        newest: Filled | None = None
        taken = 0
        while (filled := self._device.take()) is not None:
            if count.sequence is not None:
                lost = (filled.sequence - count.sequence - 1) & 0xFFFF_FFFF
                lost = lost if lost < 1 << 31 else 0  # a driver that began to count anew, or never counts
                self._faults["lost_by_driver"] += lost
                count.seq += lost
            count.sequence = filled.sequence
            count.seq += 1
            if filled.broken:
                self._faults["flagged_broken"] += 1
                self._device.give_back(filled.index)
                continue
            if newest is not None:
                self._faults["superseded"] += 1
                self._device.give_back(newest.index)
            newest = filled
            taken += 1
        if newest is not None and taken >= self._live.settings.buffers and self._is_old(newest):
            # Every buffer was full: the driver had to stop, and has newer pictures from now on.
            self._faults["superseded"] += 1
            self._device.give_back(newest.index)
            return None
        return newest

    def _is_old(self, filled: Filled) -> bool:
        period_ns = 1_000_000_000 / (self.info.fps or _ASSUMED_FPS)
        return filled.driver_ns is not None and time.monotonic_ns() - filled.driver_ns > 2 * period_ns

    @property
    def faults(self) -> dict[str, int]:
        """What was wrong so far, by cause."""
        return {cause: number for cause, number in self._faults.items() if number}

    def close(self) -> None:
        """Stop capturing and close the device."""
        self._device.close()


class _RawReader:
    """Buffers that hold plain pictures."""

    problem = "short_picture"

    def __init__(self, raw: RawFormat) -> None:
        self._converter = RawConverter(raw)
        self._data: Bytes | None = None
        self.colour_matrix, self.colour_range = self._converter.colour_matrix, self._converter.colour_range
        self.assumed = self._converter.assumed

    def read(self, data: Bytes) -> bool:
        """Whether ``data`` holds a whole picture."""
        self._data = data
        return len(data) >= self._converter.frame_bytes

    def fill(self, out_bgr: ImageBgr) -> None:
        """Convert the picture read last."""
        assert self._data is not None
        self._converter.fill(self._data, out_bgr)
        self._data = None


class _JpegReader:
    """Buffers that hold a JPEG picture each, with or without Huffman tables."""

    problem = "corrupt_picture"

    def __init__(self, size_hw: SizeHW) -> None:
        from endostream.replay.colour import BgrConverter

        self._size_hw = size_hw
        self._codec = av.CodecContext.create("mjpeg", "r")
        self._codec.thread_count = 1
        self._converter = BgrConverter()
        self._picture: av.VideoFrame | None = None
        self.colour_matrix, self.colour_range = "bt601", "full"
        self.assumed: tuple[str, ...] = ()

    def read(self, data: Bytes) -> bool:
        """Decode ``data``; False if it is no picture of the right size."""
        try:
            pictures = self._codec.decode(av.Packet(data.tobytes()))
        except (av.FFmpegError, ValueError):
            return False
        self._picture = pictures[-1] if pictures else None
        return (
            self._picture is not None
            and (self._picture.height, self._picture.width) == self._size_hw
            and not self._picture.is_corrupt
        )

    def fill(self, out_bgr: ImageBgr) -> None:
        """Convert the picture read last."""
        assert self._picture is not None
        self._converter.fill(self._picture, out_bgr)
        self._picture = None


def _picture_reader(choice: Choice, pix: v4l2.PixelFormat) -> _RawReader | _JpegReader:
    name = READABLE[choice.pixel_format]
    if name == "mjpeg":
        return _JpegReader(choice.size_hw)
    return _RawReader(RawFormat(name, choice.size_hw, pix.bytesperline, matrix_of(pix), range_of(pix, name)))


def matrix_of(pix: v4l2.PixelFormat) -> str:
    """The matrix the driver names, by the kernel's rule where it names only a colour space; "" if neither."""
    if pix.ycbcr_enc in _MATRICES:
        return _MATRICES[pix.ycbcr_enc]
    if pix.colorspace == 0:
        return ""
    by_space = {v4l2.COLORSPACE_REC709: "bt709", v4l2.COLORSPACE_BT2020: "bt2020"}
    return by_space.get(pix.colorspace, "bt601")


def range_of(pix: v4l2.PixelFormat, pixel_format: str) -> str:
    """The range the driver names, by the kernel's rule where it does not; "" if it names no colour space either."""
    if pix.quantization == v4l2.QUANTIZATION_FULL:
        return "full"
    if pix.quantization == v4l2.QUANTIZATION_LIMITED:
        return "limited"
    if pixel_format in ("bgr24", "rgb24") or pix.colorspace == v4l2.COLORSPACE_JPEG:
        return "full"
    return "limited" if pix.colorspace else ""
