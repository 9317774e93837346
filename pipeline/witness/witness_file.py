"""The witness's eye on a recording: reads the code of every frame of a video file, or of a folder of pictures.

A file has no delay, but it shows what was lost, repeated, torn or put out of order on the way into it. Separate from
the screen's eye, which needs X and a clock.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from endostream.configs.errors import SourceMissing

from ..source import open_source
from .witness_code import CodeReader, Luma
from .witness_verdict import Seen

Shown = tuple[int, Luma] | None
"""A frame's time in nanoseconds and its luma; None for what cannot be decoded."""


def seen_in_file(path: Path, drawn_wh: tuple[int, int] | None) -> tuple[list[Seen], int]:
    """A sighting for each frame that can be read, times being its pts, and how many cannot.

    Args:
        path: of the file or folder.
        drawn_wh: width and height in which the codes were drawn; None: those of the recording's first picture.

    Raises:
        SourceMissing: no such file, or none with video in it.
    """
    seen: list[Seen] = []
    unreadable = 0
    reader = None if drawn_wh is None else CodeReader(drawn_wh)
    for shown in _pictures(path) if path.is_dir() else _frames(path):
        if reader is None and shown is not None:
            reader = _reader_of_own_size(path, shown[1])
        sighting = None if shown is None or reader is None else reader.read(shown[1])
        if shown is None or sighting is None or sighting.code is None:
            unreadable += 1
            continue
        other = sighting.bottom if sighting.code == sighting.top else sighting.top
        torn = other.number if sighting.torn and other is not None else None
        seen.append(Seen(sighting.code.number, shown[0], shown[0], sighting.code.time_us, torn))
    return seen, unreadable


def _reader_of_own_size(path: Path, luma: Luma) -> CodeReader:
    height, width = luma.shape
    try:
        return CodeReader((width, height))
    except ValueError as error:
        raise SourceMissing(
            f"witness: {path}; no code in it: {error}. Try: --size WxH as it was sent"
        ) from error


def _pictures(path: Path) -> Iterator[Shown]:
    with open_source(str(path)) as source:
        for picture in source:
            image_bgr = np.empty((*picture.size_hw, 3), np.uint8)
            picture.fill(image_bgr)
            at_ns = round(picture.pts * picture.time_base * 1_000_000_000)
            yield at_ns, np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def _frames(path: Path) -> Iterator[Shown]:
    """Every frame of a file; None for each packet that cannot be decoded, and where the file breaks off."""
    try:
        container = av.open(str(path))
    except (OSError, av.FFmpegError) as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceMissing(f"witness: {path}; cannot be read ({reason}); expected a video file") from error
    if not container.streams.video:
        container.close()
        raise SourceMissing(
            f"witness: {path}; holds no video stream; expected a recording of pictures with codes"
        )
    stream = container.streams.video[0]
    counted = itertools.count()
    with container:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                yield None
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None
                continue
            for frame in frames:
                luma = np.ascontiguousarray(frame.to_ndarray(format="gray"), np.uint8)
                yield round(frame.time * 1e9) if frame.time is not None else next(counted), luma
