"""Writes small test videos in many codecs and containers, whole or damaged.

Each picture carries its number as eight bright or dark cells, so that a test can say which picture it
was given, even after a lossy codec.
"""

import random
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from endostream.pipeline.frame import ImageBgr, SizeHW

DARK, BRIGHT = 60, 200
_ROWS, _COLUMNS = 2, 4


def numbered_picture(number: int, size_hw: SizeHW) -> ImageBgr:
    """Picture of 0 ≤ ``number`` < 256 in two rows of four grey cells, lowest bit upper left."""
    bits = [(number >> bit) & 1 for bit in range(_ROWS * _COLUMNS)]
    cells = np.where(np.array(bits).reshape(_ROWS, _COLUMNS) == 1, BRIGHT, DARK).astype(np.uint8)
    rows = np.arange(size_hw[0]) * _ROWS // size_hw[0]
    columns = np.arange(size_hw[1]) * _COLUMNS // size_hw[1]
    return np.repeat(cells[rows][:, columns, None], 3, axis=2)


def number_of(image_bgr: ImageBgr) -> int:
    """The number a picture carries, read from the middle of each cell."""
    height, width = image_bgr.shape[:2]
    rows = [height * (2 * row + 1) // (2 * _ROWS) for row in range(_ROWS)]
    columns = [width * (2 * column + 1) // (2 * _COLUMNS) for column in range(_COLUMNS)]
    bright = image_bgr[rows][:, columns].mean(axis=2) > (DARK + BRIGHT) / 2
    return int(sum(1 << bit for bit, is_set in enumerate(bright.ravel()) if is_set))


@dataclass
class VideoSpec:
    """What to write: ``times`` are pts in ms instead of even ones; ``encoder`` sets codec attributes; with
    ``texture`` pictures have a fixed noise over them and the file a real one's weight."""

    codec: str = "mpeg4"
    pix_fmt: str = "yuv420p"
    size_hw: SizeHW = (48, 64)
    frames: int = 12
    fps: int | Fraction = 25
    options: dict[str, str] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    times: list[int] | None = None
    container: str | None = None
    first_number: int = 0
    audio: bool = False
    texture: bool = False


def make_video(path: Path, spec: VideoSpec) -> Path:
    """Write ``spec.frames`` numbered pictures to ``path``."""
    with av.open(str(path), "w", format=spec.container) as container:
        stream = container.add_stream(spec.codec, rate=spec.fps, options=spec.options)
        stream.height, stream.width = spec.size_hw
        stream.pix_fmt = spec.pix_fmt
        for name, value in spec.encoder.items():
            setattr(stream.codec_context, name, value)
        if spec.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono") if spec.audio else None
        for index in range(spec.frames):
            container.mux(stream.encode(_frame(spec, index)))
            if sound is not None:
                container.mux(sound.encode(_silence(index)))
        container.mux(stream.encode(None))
    return path


def _frame(spec: VideoSpec, index: int) -> av.VideoFrame:
    picture = numbered_picture(spec.first_number + index, spec.size_hw)
    if spec.texture:
        picture = picture + np.random.default_rng(index).integers(0, 50, picture.shape, np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format=spec.pix_fmt)
    for name in ("colorspace", "color_range"):
        if name in spec.encoder:
            setattr(frame, name, spec.encoder[name])
    frame.pts, frame.time_base = (index, 1 / Fraction(spec.fps))
    if spec.times is not None:
        frame.pts, frame.time_base = spec.times[index], Fraction(1, 1000)
    return frame


def _silence(index: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), "s16", "mono")
    frame.rate, frame.pts, frame.time_base = 8000, 320 * index, Fraction(1, 8000)
    return frame


def flip_bytes(path: Path, seed: int, share: float = 0.01) -> Path:
    """Invert ``share`` of the bytes in the middle half of a file, where ``seed`` says."""
    data = bytearray(path.read_bytes())
    places = range(len(data) // 4, len(data) * 3 // 4)
    for place in random.Random(seed).sample(places, max(1, round(len(places) * share))):
        data[place] ^= 0xFF
    damaged = path.with_stem(f"{path.stem}_flipped{seed}")
    damaged.write_bytes(data)
    return damaged


def cut_off(path: Path, share: float) -> Path:
    """The first ``share`` of a file."""
    data = path.read_bytes()
    cut = path.with_stem(f"{path.stem}_cut")
    cut.write_bytes(data[: round(len(data) * share)])
    return cut


def without_frames(path: Path) -> Path:
    """An AVI's header, up to where its first frame would lie."""
    data = path.read_bytes()
    header = path.with_stem(f"{path.stem}_header")
    header.write_bytes(data[: data.index(b"movi") + 4])
    return header


def with_broken_index(path: Path) -> Path:
    """An AVI with noise where its index was."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"idx1") + 8
    data[start:] = random.Random(0).randbytes(len(data) - start)
    broken = path.with_stem(f"{path.stem}_index")
    broken.write_bytes(data)
    return broken
