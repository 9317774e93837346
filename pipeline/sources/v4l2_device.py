"""One V4L2 capture device: opened, asked what it offers, set up, and its buffers taken and given back.

Separate from the source, which makes pictures of buffers and decides when a device is lost. FFmpeg's own V4L2 input
asks for 256 buffers, eight seconds at 30 fps that may pile up; here it is 2 to 4, and a reader always gets the newest.
Nothing here waits longer than it is told to.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing

from ..frame import SizeHW
from . import v4l2
from .convert import Bytes
from .v4l2_modes import Choice, Mode

_USUAL_SIZES = ((480, 640), (576, 720), (576, 768), (720, 1280), (1024, 1280), (1080, 1920), (2160, 3840))
_USUAL_RATES = (*(Fraction(rate) for rate in (5, 10, 15, 24, 25, 30, 50, 60)), Fraction(30000, 1001))
_MOST_ENUMERATED = 256
_PROBLEMS = {
    errno.ENOENT: "no such device. Try: endostream doctor",
    errno.ENODEV: "the device is not connected. Try: endostream doctor",
    errno.ENXIO: "the device is not connected. Try: endostream doctor",
    errno.EACCES: "no permission to use it. Try: sudo usermod -aG video $USER, and log in again",
    errno.EPERM: "no permission to use it. Try: sudo usermod -aG video $USER, and log in again",
    errno.EBUSY: "in use by another program. Try: close it (fuser -v DEVICE names it)",
    errno.ENOTTY: "not a video device. Try: endostream doctor",
    errno.EINVAL: "not a video device. Try: endostream doctor",
}


@dataclass(frozen=True, slots=True)
class Filled:
    """A buffer with a picture, ours until it is given back.

    ``driver_ns`` is the driver's time, None unless it is of the monotonic clock; ``broken`` says that the driver
    flagged the data as damaged.
    """

    index: int
    data: Bytes
    sequence: int
    driver_ns: int | None
    broken: bool


class V4l2Device:
    """An open capture device.

    Attributes:
        path: of the device.
        card: the name the driver gives it.

    Raises:
        SourceMissing: it cannot be opened, or is none that captures; the message is one line.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._maps: list[mmap.mmap] = []
        self._views: list[Bytes] = []
        self._streaming = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise missing(path, error) from error
        self._poller = select.poll()
        self._poller.register(self._fd, select.POLLIN | select.POLLPRI | select.POLLERR)
        try:
            self.card = self._check_capability()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_capability(self) -> str:
        capability = v4l2.Capability()
        try:
            self._call(v4l2.QUERYCAP, capability)
        except OSError as error:
            raise missing(self.path, error) from error
        all_caps = int(capability.capabilities)
        caps = int(capability.device_caps) if all_caps & v4l2.CAP_DEVICE_CAPS else all_caps
        card = bytes(capability.card).decode(errors="replace")
        if not caps & v4l2.CAP_VIDEO_CAPTURE:
            if caps & v4l2.CAP_VIDEO_CAPTURE_MPLANE:
                raise SourceMissing(
                    f"source: {self.path} ({card}); captures in several planes only. Try: pipe: and GStreamer's v4l2src"
                )
            raise SourceMissing(
                f"source: {self.path} ({card}); is not a capture device. Try: endostream doctor"
            )
        if not caps & v4l2.CAP_STREAMING:
            raise SourceMissing(
                f"source: {self.path} ({card}); has no streaming I/O. Try: --set live.reader=ffmpeg"
            )
        return card

    def _call(self, request: int, argument: Any) -> None:
        v4l2.call(self._fd, request, argument)

    # What it offers

    def modes(self, wanted_hw: SizeHW | None = None, wanted_fps: Fraction | None = None) -> list[Mode]:
        """Everything it offers; of ranges, the usual sizes and rates and those wanted."""
        found = []
        for number in self._enumerate(v4l2.FormatDescription, v4l2.ENUM_FMT, "pixelformat"):
            name = v4l2.fourcc_name(number)
            for size_hw in self._sizes(number, wanted_hw):
                found.append(Mode(name, size_hw, self._rates(number, size_hw, wanted_fps)))
        return found

    def _enumerate(self, structure: type[Any], request: int, value: str) -> Iterator[Any]:
        for index in range(_MOST_ENUMERATED):
            item = structure(index=index)
            if hasattr(item, "type"):
                item.type = v4l2.BUF_TYPE_VIDEO_CAPTURE
            try:
                self._call(request, item)
            except OSError:
                return
            yield getattr(item, value)

    def _sizes(self, number: int, wanted_hw: SizeHW | None) -> list[SizeHW]:
        sizes: list[SizeHW] = []
        for index in range(_MOST_ENUMERATED):
            item = v4l2.FrameSize(index=index, pixel_format=number)
            try:
                self._call(v4l2.ENUM_FRAMESIZES, item)
            except OSError:
                break
            if item.type == v4l2.SIZE_DISCRETE:
                sizes.append((item.discrete.height, item.discrete.width))
                continue
            ranges = item.stepwise
            candidates = {*_USUAL_SIZES, (ranges.max_height, ranges.max_width)}
            candidates |= set() if wanted_hw is None else {wanted_hw}
            sizes += sorted(size for size in candidates if _on_grid(size, ranges))
            break  # the kernel enumerates one range and no more
        return sizes or [self.current_hw()]

    def _rates(self, number: int, size_hw: SizeHW, wanted: Fraction | None) -> tuple[Fraction, ...]:
        rates: set[Fraction] = set()
        for index in range(_MOST_ENUMERATED):
            item = v4l2.FrameInterval(index=index, pixel_format=number, height=size_hw[0], width=size_hw[1])
            try:
                self._call(v4l2.ENUM_FRAMEINTERVALS, item)
            except OSError:
                break
            if item.type == v4l2.INTERVAL_DISCRETE:
                rates |= _rate_of(item.discrete)
                continue
            ends = _rate_of(item.stepwise.max) | _rate_of(item.stepwise.min)
            usual = (*_USUAL_RATES, *(() if wanted is None else (wanted,)))
            rates |= ends | {rate for rate in usual if ends and min(ends) <= rate <= max(ends)}
            break
        return tuple(sorted(rates))

    def current_hw(self) -> SizeHW:
        """The size it stands on: for a grabber, often that of the signal."""
        pix = self._format().pix
        return pix.height, pix.width

    def _format(self) -> v4l2.Format:
        form = v4l2.Format(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        self._call(v4l2.G_FMT, form)
        return form

    def input_problem(self) -> str:
        """What the driver says is wrong with the signal, "" if nothing or if it cannot tell."""
        number = ctypes.c_int32()
        try:
            self._call(v4l2.G_INPUT, number)
            item = v4l2.Input(index=number.value)
            self._call(v4l2.ENUMINPUT, item)
        except OSError:
            return ""
        if item.status & v4l2.INPUT_NO_SIGNAL:
            return "no signal at its input"
        if item.status & v4l2.INPUT_NO_POWER:
            return "its input has no power"
        if item.status & (v4l2.INPUT_NO_SYNC | v4l2.INPUT_NO_LOCK):
            return "it cannot lock to the signal"
        return ""

    # Setting up

    def configure(self, choice: Choice) -> tuple[v4l2.PixelFormat, Fraction | None]:
        """Set format and rate; returns what the driver made of them.

        Raises:
            SourceMissing: busy, or it insists on something else.
        """
        form = v4l2.Format(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        form.pix.height, form.pix.width = choice.size_hw
        form.pix.pixelformat = v4l2.fourcc(choice.pixel_format)
        form.pix.field = 1  # progressive if it has the choice
        try:
            self._call(v4l2.S_FMT, form)
            fps = self._set_rate(choice.fps)
        except OSError as error:
            raise missing(self.path, error) from error
        pix = form.pix
        got = v4l2.fourcc_name(pix.pixelformat), (pix.height, pix.width)
        if got != (choice.pixel_format, choice.size_hw):
            raise SourceMissing(
                f"source: {self.path}; gives {got[0]} {pix.width}x{pix.height} where it offers "
                f"{choice.pixel_format} {choice.size_hw[1]}x{choice.size_hw[0]}"
            )
        if pix.field == v4l2.FIELD_ALTERNATE:
            raise SourceMissing(
                f"source: {self.path}; gives half pictures (field order alternate). Try: pipe: and a deinterlacer"
            )
        with contextlib.suppress(OSError):  # few drivers tell when the signal changes
            self._call(v4l2.SUBSCRIBE_EVENT, v4l2.EventSubscription(type=v4l2.EVENT_SOURCE_CHANGE))
        return pix, fps

    def _set_rate(self, fps: Fraction | None) -> Fraction | None:
        """Ask for a rate; returns the one it says it has, None where it does not say."""
        parameters = v4l2.StreamParameters(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        try:
            if fps is None:
                self._call(v4l2.G_PARM, parameters)
            else:
                interval = parameters.capture.timeperframe
                interval.numerator, interval.denominator = fps.denominator, fps.numerator
                self._call(v4l2.S_PARM, parameters)
        except OSError as error:
            if error.errno in (
                errno.ENOTTY,
                errno.EINVAL,
            ):  # many grabbers have the signal's rate and no choice
                return fps
            raise
        return next(iter(_rate_of(parameters.capture.timeperframe)), fps)

    def start(self, buffers: int) -> None:
        """Have ``buffers`` buffers filled from now on; raises SourceMissing if the device is in use."""
        request = v4l2.RequestBuffers(
            count=buffers, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP
        )
        try:
            self._call(v4l2.REQBUFS, request)
            for index in range(request.count):
                buffer = self._buffer(index)
                self._call(v4l2.QUERYBUF, buffer)
                self._maps.append(
                    mmap.mmap(
                        self._fd, buffer.length, mmap.MAP_SHARED, mmap.PROT_READ, offset=buffer.m.offset
                    )
                )
                self._views.append(np.frombuffer(self._maps[-1], np.uint8))
                self.give_back(index)
            self._call(v4l2.STREAMON, ctypes.c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
        except OSError as error:
            raise missing(self.path, error) from error
        self._streaming = True

    @staticmethod
    def _buffer(index: int = 0) -> v4l2.Buffer:
        return v4l2.Buffer(index=index, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)

    # Capturing

    def wait(self, timeout_ms: float) -> bool:
        """Wait for a filled buffer; False if none came in time.

        Raises:
            SourceLost: unplugged, or the signal has changed.
        """
        for _, events in self._poller.poll(timeout_ms):
            if events & select.POLLPRI and self._signal_changed():
                raise SourceLost(f"source: {self.path}; the signal has changed")
            if events & select.POLLIN:
                return True
            if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                self._call_or_lost(v4l2.QUERYCAP, v4l2.Capability())
                raise SourceLost(f"source: {self.path}; the driver has stopped")
        return False

    def _signal_changed(self) -> bool:
        event = v4l2.Event()
        try:
            self._call(v4l2.DQEVENT, event)
        except OSError:
            return False
        return bool(event.type == v4l2.EVENT_SOURCE_CHANGE and event.data[0] & 1)

    def take(self) -> Filled | None:
        """The oldest filled buffer, None if there is none; raises SourceLost."""
        buffer = self._buffer()
        try:
            if not self._call_or_lost(v4l2.DQBUF, buffer):
                return None
        except OSError as error:
            if error.errno == errno.EIO:  # a lost picture or a lost signal; the driver goes on if it can
                return None
            raise SourceLost(f"source: {self.path}; cannot be read ({error.strerror})") from error
        clock = buffer.flags & v4l2.BUF_FLAG_TIMESTAMP_MASK
        driver_ns = buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000
        return Filled(
            buffer.index,
            self._views[buffer.index][: buffer.bytesused],
            buffer.sequence,
            driver_ns if clock == v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC and driver_ns else None,
            bool(buffer.flags & v4l2.BUF_FLAG_ERROR),
        )

    def give_back(self, index: int) -> None:
        """Let the driver fill a buffer again; raises SourceLost."""
        try:
            self._call_or_lost(v4l2.QBUF, self._buffer(index))
        except OSError as error:
            raise SourceLost(f"source: {self.path}; takes no buffer back ({error.strerror})") from error

    def _call_or_lost(self, request: int, argument: Any) -> bool:
        """Call; False for "nothing there now". Raises SourceLost where the device is gone."""
        try:
            self._call(request, argument)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return False
            if error.errno in (errno.ENODEV, errno.ENXIO):
                raise SourceLost(f"source: {self.path}; the device is gone") from error
            raise
        return True

    def close(self) -> None:
        """Stop and give everything back; may be called twice."""
        if self._fd < 0:
            return
        if self._streaming:
            with contextlib.suppress(OSError):
                self._call(v4l2.STREAMOFF, ctypes.c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
        self._streaming = False
        self._views.clear()
        for memory in self._maps:
            with contextlib.suppress(BufferError):  # a picture of it is still looked at; it goes with that
                memory.close()
        self._maps.clear()
        self._poller.unregister(self._fd)
        os.close(self._fd)
        self._fd = -1


def missing(path: str, error: OSError) -> SourceMissing:
    """Why a device cannot be used, in one line."""
    problem = _PROBLEMS.get(error.errno or 0, f"cannot be used ({error.strerror})")
    return SourceMissing(f"source: {path}; {problem.replace('DEVICE', path)}")


def _on_grid(size_hw: SizeHW, ranges: v4l2.StepwiseSize) -> bool:
    height, width = size_hw
    return bool(
        ranges.min_width <= width <= ranges.max_width
        and ranges.min_height <= height <= ranges.max_height
        and (width - ranges.min_width) % max(1, ranges.step_width) == 0
        and (height - ranges.min_height) % max(1, ranges.step_height) == 0
    )


def _rate_of(interval: v4l2.Fraction) -> set[Fraction]:
    """The rate of an interval, nothing if it is none."""
    if not interval.numerator or not interval.denominator:
        return set()
    return {Fraction(interval.denominator, interval.numerator)}


@dataclass(frozen=True, slots=True)
class DeviceListing:
    """One device as ``endostream doctor`` lists it: ``problem`` is why it cannot be used, "" if it can."""

    path: str
    card: str = ""
    modes: tuple[Mode, ...] = ()
    problem: str = ""


def list_devices(
    folder: Path = Path("/dev"), opened: Callable[[str], V4l2Device] = V4l2Device
) -> list[DeviceListing]:
    """Every ``videoN`` in ``folder`` that captures, or that cannot be asked."""
    listed = []
    numbered = [path for path in folder.glob("video*") if path.name[5:].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name[5:])):
        try:
            with opened(str(path)) as device:
                listed.append(DeviceListing(str(path), device.card, tuple(device.modes())))
        except (SourceMissing, ConfigError, OSError) as error:
            if "not a capture device" not in str(error):  # cards have nodes for metadata and output as well
                listed.append(DeviceListing(str(path), problem=str(error).partition("; ")[2] or str(error)))
    return listed
