"""YUV4MPEG2, the format in which video programs hand raw pictures to each other: its one header line, read.

Separate from the pipe that carries it. Known: 4:2:0 (all three sitings of the chroma, which are drawn alike), 4:1:1,
4:2:2, 4:4:4 with and without alpha, grey, each also with 9 to 16 bits, and FFmpeg's ``XCOLORRANGE``.
Reference: mjpegtools' yuv4mpeg(5).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from ..frame import SizeHW

MAGIC = b"YUV4MPEG2"
FRAME = b"FRAME"
_LAYOUTS = {
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "411": "yuv411p",
    "422": "yuv422p",
    "444": "yuv444p",
    "444alpha": "yuva444p",
    "mono": "gray",
}
_DEEP = re.compile(r"(420|422|444|mono)p?(9|10|12|14|16)")
_INTERLACED = {"t": "top", "b": "bottom", "m": "mixed"}
_LARGEST_PX = 16_384


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """What the first line says.

    Attributes:
        size_hw: height and width.
        fps: None where it says 0:0.
        pixel_format: FFmpeg's name.
        range: ``limited``, ``full``, or "" where it does not say.
        interlaced: which field comes first (``top``, ``bottom``, ``mixed``), "" for progressive or unknown.
    """

    size_hw: SizeHW
    fps: Fraction | None
    pixel_format: str
    range: str
    interlaced: str


def parse_header(line: bytes) -> StreamHeader:
    """Read the first line, without its newline; raises ValueError that says what is wrong with it."""
    words = line.decode("ascii", errors="replace").split(" ")
    if words[0] != MAGIC.decode():
        raise ValueError(f"begins with {line[:16]!r}; expected {MAGIC.decode()}")
    tags = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
    comments = [word[1:] for word in words[1:] if word.startswith("X")]
    width, height = _number(tags, "W"), _number(tags, "H")
    ranges = {"COLORRANGE=FULL": "full", "COLORRANGE=LIMITED": "limited"}
    return StreamHeader(
        (height, width),
        _rate(tags.get("F", "0:0")),
        _pixel_format(tags.get("C", "420jpeg")),
        next((ranges[comment] for comment in comments if comment in ranges), ""),
        _INTERLACED.get(tags.get("I", ""), ""),
    )


def _number(tags: dict[str, str], tag: str) -> int:
    text = tags.get(tag, "")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LARGEST_PX:
        raise ValueError(f"{tag}: {text[:16]!r}; expected 1 to {_LARGEST_PX}")
    return int(text)


def _rate(text: str) -> Fraction | None:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if match is None:
        raise ValueError(f"F: {text[:16]!r}; expected N:D")
    numerator, denominator = int(match[1]), int(match[2])
    return Fraction(numerator, denominator) if numerator and denominator else None


def _pixel_format(layout: str) -> str:
    if layout in _LAYOUTS:
        return _LAYOUTS[layout]
    match = _DEEP.fullmatch(layout)
    if match is None:
        raise ValueError(f"C: {layout[:16]!r}; expected one of {', '.join(_LAYOUTS)}")
    return f"gray{match[2]}le" if match[1] == "mono" else f"yuv{match[1]}p{match[2]}le"
