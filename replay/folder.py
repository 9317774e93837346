"""Plays a folder of pictures as a video: png, jpg, bmp and tif files in natural order (``9.png`` before
``10.png``).

Separate from ``avi.py`` because there is no container: the rate is a setting, and a picture that cannot be
read costs only itself. FFmpeg's decoders read the pictures, so that colours are those of a video of the same
values, and a damaged one prints nothing. Rotation tags are ignored, so that masks drawn on the stored pixels
still fit.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
from av.video.codeccontext import VideoCodecContext

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.configs.schema import frame_rate
from endostream.pipeline.frame import SourcePicture
from endostream.pipeline.source import SourceInfo, SourceOptions

from .colour import BgrConverter, colour_of
from .container import ASSUMED_FPS, MAX_PICTURE_PX

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".avi", ".mpg", ".mpeg", ".mp4", ".m4v", ".mkv", ".mov", ".wmv", ".asf", ".dv", ".vob"}
TIME_TOLERANCE_S = 0.0005
"""A start given in milliseconds means the nearest picture, not the one after it."""

_DECODERS = {b"\x89PNG": "png", b"\xff\xd8": "mjpeg", b"BM": "bmp", b"II*\0": "tiff", b"MM\0*": "tiff"}


class FolderSource:
    """A folder of pictures as a source; its ``pts`` is the picture's place in the folder.

    Args:
        address: path of the folder; subfolders, hidden files and files of other kinds are not played.
        options: ``extra`` knows ``folder_fps`` (a number or a fraction such as ``"30000/1001"``, default 25).

    Raises:
        SourceMissing: no such folder, or no picture in it that can be read.
        ConfigError: ``folder_fps`` is no rate, or ``start_s`` lies behind the end.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        self._options = options or SourceOptions()
        self._fps = _rate(self._options.extra.get("folder_fps", ASSUMED_FPS))
        self._folder = Path(address)
        self._paths = _pictures_in(self._folder)
        self._converter = BgrConverter()
        self._faults: Counter[str] = Counter()
        self._start = max(0, math.ceil((self._options.start_s - TIME_TOLERANCE_S) * self._fps))
        if self._start >= len(self._paths):
            raise ConfigError(
                f"start_s: {self._options.start_s:g}; expected less than "
                f"{float(len(self._paths) / self._fps):g} s, the length of {address}"
            )
        self.info = self._probe(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures from ``start_s`` on, from there again each time; SourceLost if the folder goes away."""
        size_hw = self.info.size_hw
        for index in range(self._start, self._end):
            picture = self._read(self._paths[index])
            if picture is None:
                self._faults["unreadable_picture"] += 1
                continue
            if (picture.height, picture.width) != size_hw:
                size_hw = (picture.height, picture.width)
                self._faults["size_change"] += 1
            fill = partial(self._converter.fill, picture)
            yield SourcePicture(index - self._start, index, self.info.time_base, size_hw, fill)

    @property
    def faults(self) -> dict[str, int]:
        """Over all iterations: ``unreadable_picture`` (a gap in seq) and ``size_change``."""
        return dict(self._faults)

    def close(self) -> None:
        """Nothing is held open between pictures."""

    @property
    def _end(self) -> int:
        if self._options.duration_s is None:
            return len(self._paths)
        end_s = self._options.start_s + self._options.duration_s - TIME_TOLERANCE_S
        return min(len(self._paths), math.ceil(end_s * self._fps))

    def _read(self, path: Path) -> av.VideoFrame | None:
        """The picture, or None if it cannot be read."""
        try:
            return _decode(path.read_bytes())
        except OSError as error:
            if not self._folder.is_dir():
                raise SourceLost(f"source: {self._folder}; the folder is gone") from error
            return None

    def _probe(self, address: str) -> SourceInfo:
        """What the folder is, by its first readable picture."""
        first = next(filter(None, map(self._read, self._paths)), None)
        if first is None:
            raise SourceMissing(f"source: {address}; none of its {len(self._paths)} pictures can be read")
        colour = colour_of(first)
        return SourceInfo(
            address=address,
            kind="folder",
            size_hw=(first.height, first.width),
            fps=self._fps,
            time_base=1 / self._fps,
            frame_count=len(self._paths),
            duration_s=float(len(self._paths) / self._fps),
            codec=_suffix(self._paths[0]),
            pixel_format=first.format.name,
            colour_matrix=colour.matrix,
            colour_range=colour.range,
            assumed=(*colour.assumed, "fps"),
        )


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that takes runs of digits as numbers and does not mind case; ``9`` < ``10`` < ``a9`` < ``A10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]


def _rate(value: str | float) -> Fraction:
    try:
        return frame_rate(value)
    except ValueError as error:
        raise ConfigError(f"folder_fps: {value!r}; expected 1 to 240 frames/s, such as 30000/1001") from error


def _pictures_in(folder: Path) -> list[Path]:
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise SourceMissing(f"source: {folder}; the folder cannot be read ({error.strerror})") from error
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        return sorted(pictures, key=lambda path: (natural_key(path.name), path.name))
    raise SourceMissing(f"source: {folder}; {_what_lies_there(folder, files)}")


def _what_lies_there(folder: Path, files: list[Path]) -> str:
    """What is wrong with a folder without pictures, and what could be played instead."""
    videos = sorted(path for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        count = "1 video" if len(videos) == 1 else f"{len(videos)} videos"
        return f"holds {count} and no pictures. Try: {videos[0]}, or --catalogue {folder} for all"
    below = sorted(path.parent for suffix in PICTURE_SUFFIXES for path in folder.glob(f"*/*{suffix}"))
    hint = f". Try: {below[0]}" if below else ""
    return f"no pictures in it, expected png, jpg, bmp or tif files{hint}"


def _decode(data: bytes) -> av.VideoFrame | None:
    """Decode one picture file; None if it is none or is damaged beyond reading."""
    decoder = next((name for magic, name in _DECODERS.items() if data.startswith(magic)), None)
    if decoder is None:
        return None
    codec = cast("VideoCodecContext", av.CodecContext.create(decoder, "r"))
    codec.options = {"max_pixels": str(MAX_PICTURE_PX)}
    codec.thread_count = 1
    try:
        pictures = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except av.FFmpegError:
        return None
    return pictures[0] if pictures else None


def _suffix(path: Path) -> str:
    return path.suffix.lower().lstrip(".")
