"""Raw pictures as grabbers and pipes give them (NV12, YUYV, planar YUV, RGB, grey) to BGR, straight into the ring.

Separate from the sources that read them, so that a grabber and a pipe cannot differ in colour. Measured for 1080p on
one core: OpenCV takes 0.7 ms for NV12 and 0.8 ms for YUYV but knows BT.601 with limited range only; FFmpeg's swscale
knows all matrices and takes 1.2 and 2.0 ms where the chroma planes are parted first, 5 to 7 ms where they are not. So
what is BT.601 and limited goes through OpenCV, and everything else through ``replay.colour``, as files do, with
the same rule for what is not said. Compressed pictures are decoded elsewhere.
"""

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError

from ..frame import ImageBgr, SizeHW

Bytes = npt.NDArray[np.uint8]
_MATRIX_NUMBERS = {"bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}
"""H.273 matrix_coefficients, which FFmpeg's pictures carry."""
_PACKED_CV = {"yuyv422": cv2.COLOR_YUV2BGR_YUY2, "uyvy422": cv2.COLOR_YUV2BGR_UYVY}
_PLANAR_CV = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuv420p": cv2.COLOR_YUV2BGR_I420}
_PACKED_BYTES = {"bgr24": 3, "rgb24": 3, "yuyv422": 2, "uyvy422": 2}
_LIMITED_GAIN = 255 / 219


@dataclass(frozen=True, slots=True)
class RawFormat:
    """How raw pictures lie in memory.

    Attributes:
        pixel_format: FFmpeg's name, e.g. ``"nv12"``.
        size_hw: height and width.
        stride: bytes from line to line of the first plane, 0 for no padding. Packed formats and NV12 only.
        matrix: ``bt601``, ``bt709``, ``bt2020``, …, or "" where nobody says.
        range: ``limited``, ``full``, or "" where nobody says.
    """

    pixel_format: str
    size_hw: SizeHW
    stride: int = 0
    matrix: str = ""
    range: str = ""


class RawConverter:
    """Turns pictures of one format into BGR.

    Attributes:
        frame_bytes: what one picture takes in memory, padding of its last line left out.
        colour_matrix, colour_range: as read or assumed; ``assumed`` names what nobody said.

    Raises:
        ConfigError: a format that cannot be read.
    """

    def __init__(self, raw: RawFormat) -> None:
        from endostream.replay.colour import BgrConverter, colour_of

        self._raw = raw
        self._converter = BgrConverter()
        height, width = raw.size_hw
        try:
            self._frame = av.VideoFrame(width, height, _parted(raw.pixel_format))
        except ValueError as error:
            raise ConfigError(f"pixel format: {raw.pixel_format}; FFmpeg knows none of that name") from error
        if raw.matrix in _MATRIX_NUMBERS:
            self._frame.colorspace = _MATRIX_NUMBERS[raw.matrix]
        if raw.range:
            self._frame.color_range = 2 if raw.range == "full" else 1
        colour = colour_of(self._frame)
        self.assumed: tuple[str, ...]
        if raw.pixel_format in ("bgr24", "rgb24"):
            self.colour_matrix, self.colour_range, self.assumed = "rgb", raw.range or "full", ()
        else:
            self.colour_matrix, self.colour_range, self.assumed = colour.matrix, colour.range, colour.assumed
        self._rows = _rows(self._frame)
        self.frame_bytes = self._bytes_of_a_frame()
        plain = height % 2 == 0 and width % 2 == 0 and self._says_601_limited
        self._by_opencv = plain and raw.pixel_format in (*_PACKED_CV, *_PLANAR_CV)

    @property
    def _says_601_limited(self) -> bool:
        return self.colour_matrix == "bt601" and self.colour_range == "limited"

    def _bytes_of_a_frame(self) -> int:
        height, width = self._raw.size_hw
        if self._raw.pixel_format == "gray":
            return (self._raw.stride or width) * (height - 1) + width
        if self._raw.pixel_format in _PACKED_BYTES:
            line = _PACKED_BYTES[self._raw.pixel_format] * (
                width + width % 2 * (self._raw.pixel_format in _PACKED_CV)
            )
            return (self._raw.stride or line) * (height - 1) + line
        if self._raw.pixel_format == "nv12":
            luma, chroma = self._raw.stride or width, self._raw.stride or width + width % 2
            return luma * height + chroma * ((height + 1) // 2)
        return sum(rows * line for rows, line in self._rows)

    def fill(self, data: Bytes, out_bgr: ImageBgr) -> None:
        """Write the picture in ``data`` (uint8, one dimension, ``frame_bytes`` or more) into ``out_bgr``."""
        name = self._raw.pixel_format
        if name in ("bgr24", "rgb24", "gray"):
            self._fill_plain(data, out_bgr)
        elif self._by_opencv and name in _PACKED_CV:
            _into(out_bgr, cv2.cvtColor(self._packed(data, 2), _PACKED_CV[name], dst=out_bgr))
        elif self._by_opencv:
            _into(out_bgr, cv2.cvtColor(self._planar(data), _PLANAR_CV[name], dst=out_bgr))
        else:
            self._part(data)
            self._converter.fill(self._frame, out_bgr)

    def _packed(self, data: Bytes, channels: int) -> Bytes:
        """Lines of ``channels`` bytes a pixel, without their padding."""
        height, width = self._raw.size_hw
        stride = self._raw.stride or channels * width
        lines = np.lib.stride_tricks.as_strided(data, (height, channels * width), (stride, 1))
        return lines.reshape(height, width, channels)

    def _planar(self, data: Bytes) -> Bytes:
        height, width = self._raw.size_hw
        stride = self._raw.stride or width
        return np.lib.stride_tricks.as_strided(data, (height * 3 // 2, width), (stride, 1))

    def _fill_plain(self, data: Bytes, out_bgr: ImageBgr) -> None:
        """What needs no matrix: RGB and grey."""
        picture = self._packed(data, 1 if self._raw.pixel_format == "gray" else 3)
        if self._raw.pixel_format == "bgr24":
            np.copyto(out_bgr, picture)
        else:
            code = cv2.COLOR_GRAY2BGR if self._raw.pixel_format == "gray" else cv2.COLOR_RGB2BGR
            _into(out_bgr, cv2.cvtColor(picture, code, dst=out_bgr))
        if self._raw.range == "limited":
            np.copyto(out_bgr, cv2.convertScaleAbs(out_bgr.clip(16, 235) - np.uint8(16), alpha=_LIMITED_GAIN))

    def _part(self, data: Bytes) -> None:
        """Copy the planes of ``data`` into the picture that swscale reads."""
        name, (height, width) = self._raw.pixel_format, self._raw.size_hw
        even = width + width % 2
        if name in _PACKED_CV:
            pairs = _lines(data, height, self._raw.stride or 2 * even, 2 * even)
            luma, chroma = (0, 1) if name == "yuyv422" else (1, 0)
            fours = pairs.reshape(height, -1, 4)
            planes = [cv2.extractChannel(pairs.reshape(height, -1, 2), luma)[:, :width]]
            planes += [cv2.extractChannel(fours, chroma), cv2.extractChannel(fours, chroma + 2)]
        elif name == "nv12":
            half = (height + 1) // 2
            stride = self._raw.stride or width
            pairs = _lines(data[stride * height :], half, self._raw.stride or even, even)
            planes = [_lines(data, height, stride, width), *cv2.split(pairs.reshape(half, -1, 2))]
        else:
            planes, at = [], 0
            for rows, line in self._rows:
                planes.append(data[at : at + rows * line].reshape(rows, line))
                at += rows * line
        for plane, lines in zip(self._frame.planes, planes, strict=True):
            _update(plane, lines)


def _parted(pixel_format: str) -> str:
    """The planar format that the same values are in."""
    return {"nv12": "yuv420p", "yuyv422": "yuv422p", "uyvy422": "yuv422p"}.get(pixel_format, pixel_format)


def _rows(frame: av.VideoFrame) -> list[tuple[int, int]]:
    """Of each plane the number of lines, and bytes of a line without padding."""
    bytes_a_value = 2 if frame.format.components[0].bits > 8 else 1
    packed = _PACKED_BYTES.get(frame.format.name, 1)
    return [(plane.height, plane.width * bytes_a_value * packed) for plane in frame.planes]


def _lines(data: Bytes, rows: int, stride: int, line: int) -> Bytes:
    return np.lib.stride_tricks.as_strided(data, (rows, line), (stride, 1))


def _update(plane: av.video.plane.VideoPlane, lines: npt.NDArray[Any]) -> None:
    """Copy lines without padding into a plane of FFmpeg's, which has some."""
    if lines.shape[1] != plane.line_size or lines.shape[0] * plane.line_size != plane.buffer_size:
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[: lines.shape[0], : lines.shape[1]] = lines
        lines = padded
    plane.update(np.ascontiguousarray(lines).data.cast("B"))  # type: ignore[arg-type]


def _into(out_bgr: ImageBgr, result: npt.NDArray[Any]) -> None:
    """OpenCV writes into ``dst`` where its layout allows; where it did not, the result is copied."""
    if result.ctypes.data != out_bgr.ctypes.data:
        np.copyto(out_bgr, result)
