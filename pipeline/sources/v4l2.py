"""Video4Linux2 as the kernel defines it: the structures, numbers and one call, as far as capturing needs them.

Separate from the device (``v4l2_device.py``), so that what is copied from ``linux/videodev2.h`` stands apart from what
is decided with it. The single-planar capture interface with memory-mapped buffers only; nothing is interpreted here.
"""

import ctypes
import fcntl
from ctypes import Structure, Union, c_char, c_int32, c_long, c_uint8, c_uint32, c_uint64
from typing import Any


class Capability(Structure):
    """``struct v4l2_capability``."""

    _fields_ = [
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FormatDescription(Structure):
    """``struct v4l2_fmtdesc``."""

    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class Fraction(Structure):
    """``struct v4l2_fract``."""

    _fields_ = [("numerator", c_uint32), ("denominator", c_uint32)]


class DiscreteSize(Structure):
    """``struct v4l2_frmsize_discrete``."""

    _fields_ = [("width", c_uint32), ("height", c_uint32)]


class StepwiseSize(Structure):
    """``struct v4l2_frmsize_stepwise``."""

    _fields_ = [
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("step_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
        ("step_height", c_uint32),
    ]


class _Size(Union):
    _fields_ = [("discrete", DiscreteSize), ("stepwise", StepwiseSize)]


class FrameSize(Structure):
    """``struct v4l2_frmsizeenum``."""

    _anonymous_ = ("size",)
    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("size", _Size),
        ("reserved", c_uint32 * 2),
    ]


class StepwiseInterval(Structure):
    """``struct v4l2_frmival_stepwise``: ``min`` is the shortest interval, so the highest rate."""

    _fields_ = [("min", Fraction), ("max", Fraction), ("step", Fraction)]


class _Interval(Union):
    _fields_ = [("discrete", Fraction), ("stepwise", StepwiseInterval)]


class FrameInterval(Structure):
    """``struct v4l2_frmivalenum``."""

    _anonymous_ = ("interval",)
    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("interval", _Interval),
        ("reserved", c_uint32 * 2),
    ]


class PixelFormat(Structure):
    """``struct v4l2_pix_format``."""

    _fields_ = [
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    ]


class _FormatUnion(Union):
    # The kernel's union holds pointers, so it is aligned like one.
    _fields_ = [("pix", PixelFormat), ("raw", c_uint8 * 200), ("align", c_uint64)]


class Format(Structure):
    """``struct v4l2_format``."""

    _anonymous_ = ("fmt",)
    _fields_ = [("type", c_uint32), ("fmt", _FormatUnion)]


class CaptureParameters(Structure):
    """``struct v4l2_captureparm``."""

    _fields_ = [
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    ]


class _ParametersUnion(Union):
    _fields_ = [("capture", CaptureParameters), ("raw", c_uint8 * 200)]


class StreamParameters(Structure):
    """``struct v4l2_streamparm``."""

    _anonymous_ = ("parm",)
    _fields_ = [("type", c_uint32), ("parm", _ParametersUnion)]


class RequestBuffers(Structure):
    """``struct v4l2_requestbuffers``."""

    _fields_ = [
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    ]


class _Place(Union):
    _fields_ = [("offset", c_uint32), ("userptr", c_long)]


class Buffer(Structure):
    """``struct v4l2_buffer`` with the two fields of its ``struct timeval`` as ``seconds`` and ``microseconds``."""

    _anonymous_ = ("m",)
    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("seconds", c_long),
        ("microseconds", c_long),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _Place),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    ]


class Input(Structure):
    """``struct v4l2_input``."""

    _fields_ = [
        ("index", c_uint32),
        ("name", c_char * 32),
        ("type", c_uint32),
        ("audioset", c_uint32),
        ("tuner", c_uint32),
        ("std", c_uint64),
        ("status", c_uint32),
        ("capabilities", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class EventSubscription(Structure):
    """``struct v4l2_event_subscription``."""

    _fields_ = [("type", c_uint32), ("id", c_uint32), ("flags", c_uint32), ("reserved", c_uint32 * 5)]


class Event(Structure):
    """``struct v4l2_event``; ``data`` begins with the changes of a source change."""

    _fields_ = [
        ("type", c_uint32),
        ("data", c_uint64 * 8),
        ("pending", c_uint32),
        ("sequence", c_uint32),
        ("timestamp", c_long * 2),
        ("id", c_uint32),
        ("reserved", c_uint32 * 8),
    ]


_WRITE, _READ = 1, 2


def _number(direction: int, number: int, argument: type[Any]) -> int:
    """The kernel's ``_IOC`` for type ``'V'``."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP = _number(_READ, 0, Capability)
ENUM_FMT = _number(_READ | _WRITE, 2, FormatDescription)
G_FMT = _number(_READ | _WRITE, 4, Format)
S_FMT = _number(_READ | _WRITE, 5, Format)
REQBUFS = _number(_READ | _WRITE, 8, RequestBuffers)
QUERYBUF = _number(_READ | _WRITE, 9, Buffer)
QBUF = _number(_READ | _WRITE, 15, Buffer)
DQBUF = _number(_READ | _WRITE, 17, Buffer)
STREAMON = _number(_WRITE, 18, c_int32)
STREAMOFF = _number(_WRITE, 19, c_int32)
G_PARM = _number(_READ | _WRITE, 21, StreamParameters)
S_PARM = _number(_READ | _WRITE, 22, StreamParameters)
ENUMINPUT = _number(_READ | _WRITE, 26, Input)
G_INPUT = _number(_READ, 38, c_int32)
ENUM_FRAMESIZES = _number(_READ | _WRITE, 74, FrameSize)
ENUM_FRAMEINTERVALS = _number(_READ | _WRITE, 75, FrameInterval)
DQEVENT = _number(_READ, 89, Event)
SUBSCRIBE_EVENT = _number(_WRITE, 90, EventSubscription)

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
CAP_VIDEO_CAPTURE, CAP_VIDEO_CAPTURE_MPLANE = 0x1, 0x1000
CAP_STREAMING, CAP_DEVICE_CAPS = 0x0400_0000, 0x8000_0000
CAP_TIMEPERFRAME = 0x1000
SIZE_DISCRETE, INTERVAL_DISCRETE = 1, 1
EVENT_SOURCE_CHANGE = 5
BUF_FLAG_ERROR = 0x40
BUF_FLAG_TIMESTAMP_MASK, BUF_FLAG_TIMESTAMP_MONOTONIC = 0xE000, 0x2000
INPUT_NO_POWER, INPUT_NO_SIGNAL, INPUT_NO_SYNC, INPUT_NO_LOCK = 0x1, 0x2, 0x0001_0000, 0x0100
COLORSPACE_REC709, COLORSPACE_JPEG, COLORSPACE_BT2020 = 3, 7, 10
YCBCR_DEFAULT, YCBCR_601, YCBCR_709, YCBCR_XV601, YCBCR_XV709, YCBCR_BT2020 = 0, 1, 2, 3, 4, 6
QUANTIZATION_DEFAULT, QUANTIZATION_FULL, QUANTIZATION_LIMITED = 0, 1, 2
FIELD_INTERLACED = (4, 8, 9)
"""Both fields in one picture, in any order."""
FIELD_ALTERNATE = 7
"""One field a buffer: half pictures."""


def fourcc(name: str) -> int:
    """The number of a pixel format, e.g. of ``"YUYV"``."""
    return int.from_bytes(name.ljust(4).encode(), "little")


def fourcc_name(number: int) -> str:
    """Undo ``fourcc``; what cannot be printed becomes ``?``."""
    letters = (number & 0x7FFF_FFFF).to_bytes(4, "little").decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in letters).rstrip()


def call(fd: int, request: int, argument: Any) -> None:
    """One ioctl, which reads and fills ``argument``; raises OSError with the driver's errno."""
    fcntl.ioctl(fd, request, argument)
