"""From whatever a decoder gives (YUV of any kind, RGB, grey, palette) to BGR, by the stream's own matrix and
range.

Separate from the sources, so that a file, a folder and a recording of ours cannot differ in colour, and so
that what is assumed where a stream says nothing stands in one place:

* matrix not said: BT.709 from 720 lines on, BT.601 below (what broadcast and recorders do);
* range not said: limited (16 to 235); full for ``yuvj…`` formats, RGB and grey.

The arithmetic is FFmpeg's swscale with its default flags, so that a picture is byte for byte what ``ffmpeg``
itself makes of the same matrix and range. Against exact arithmetic its fast 4:2:0 path is at most 3 levels
off (0.9 on average, it cuts where it should round), 4:4:4 at most 1; its accurate path takes 35 times as long
(22 ms against 0.6 ms for 1080p, one core). Transfer curves and primaries are left alone: 8-bit values in,
8-bit values out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from endostream.pipeline.frame import ImageBgr

HD_HEIGHT_PX = 720
"""From here on a stream that does not name its matrix is taken for BT.709."""


class _Matrix(NamedTuple):
    name: str
    swscale: Colorspace


_BT601 = _Matrix("bt601", Colorspace.ITU601)
_BT709 = _Matrix("bt709", Colorspace.ITU709)
# Keys are H.273 matrix_coefficients (FFmpeg's AVColorSpace); 0 RGB, 2 unspecified and the exotic rest are not
# here.
_MATRICES = {
    1: _BT709,
    4: _Matrix("fcc", Colorspace.FCC),
    5: _BT601,
    6: _BT601,
    7: _Matrix("smpte240m", Colorspace.SMPTE240M),
    9: _Matrix("bt2020", Colorspace.BT2020),
    10: _Matrix("bt2020", Colorspace.BT2020),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """How the values of a decoded picture are to be read.

    Attributes:
        matrix: ``bt601``, ``bt709``, ``bt2020``, ``smpte240m``, ``fcc``; ``rgb`` or ``gray`` where there is
            none.
        range: ``limited`` or ``full``.
        assumed: which of ``colour_matrix`` and ``colour_range`` the stream did not say.
    """

    matrix: str
    range: str
    assumed: tuple[str, ...] = ()


def colour_of(frame: av.VideoFrame) -> Colour:
    """Read matrix and range off a decoded picture, and assume (see above) what it does not say."""
    if frame.format.is_rgb or frame.format.has_palette:
        return Colour("rgb", "full")
    assumed = []
    if len([part for part in frame.format.components if not part.is_alpha]) == 1:
        matrix = "gray"
    elif frame.colorspace in _MATRICES:
        matrix = _MATRICES[frame.colorspace].name
    else:
        matrix = _assumed_matrix(frame).name
        assumed.append("colour_matrix")
    if frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj"):
        return Colour(matrix, "full", tuple(assumed))
    if frame.color_range == ColorRange.MPEG:
        return Colour(matrix, "limited", tuple(assumed))
    return Colour(matrix, "full" if matrix == "gray" else "limited", (*assumed, "colour_range"))


def _assumed_matrix(frame: av.VideoFrame) -> _Matrix:
    return _BT709 if frame.height >= HD_HEIGHT_PX else _BT601


class BgrConverter:
    """Turns decoded pictures into BGR; keeps swscale's tables from picture to picture, so one per source.

    Args:
        threads: of swscale; 1 is enough up to 1080p and leaves the other core to the network.
    """

    def __init__(self, threads: int = 1) -> None:
        self._reformatter = VideoReformatter()
        self._threads = threads

    def fill(self, frame: av.VideoFrame, out_bgr: ImageBgr) -> None:
        """Write ``frame`` into ``out_bgr`` (its height × width × 3, uint8), which may be a view.

        PyAV cannot convert into memory of ours: the copy behind it costs 0.2 ms for 1080p.

        Raises:
            ValueError: ``out_bgr`` has another shape or dtype.
        """
        expected = (frame.height, frame.width, 3)
        if out_bgr.shape != expected or out_bgr.dtype != np.uint8:
            raise ValueError(f"picture: {out_bgr.shape} {out_bgr.dtype}; expected {expected} uint8")
        colour = colour_of(frame)
        matrix = (_MATRICES.get(frame.colorspace) or _assumed_matrix(frame)).swscale
        converted = self._reformatter.reformat(
            frame,
            format="bgr24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if colour.range == "full" else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        _copy_plane(converted, out_bgr)


def _copy_plane(frame: av.VideoFrame, out_bgr: ImageBgr) -> None:
    plane = frame.planes[0]
    stride = plane.line_size
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, abs(stride))
    rows = rows if stride > 0 else rows[::-1]  # raw AVI holds its lines bottom up
    np.copyto(out_bgr, rows[:, : frame.width * 3].reshape(out_bgr.shape))
