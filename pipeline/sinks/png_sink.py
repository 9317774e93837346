"""The sink ``png:FOLDER`` or ``png:FOLDER?every=N``: presented pictures as lossless PNG files.

Named after the frame's key, so that a snapshot and a line of the log find each other. A file appears under
its name only when it is whole. Pictures we made ourselves ("no signal") are left out.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from endostream.configs.errors import ConfigError

from ..frame import FrameKey, Presented
from ..sink import SinkContext, SinkSpec
from .output_path import cannot_write, check_output_folder


@dataclass(frozen=True, slots=True)
class PngTarget:
    """Where snapshots go, and of how many frames in a row (counted at the source) one is kept."""

    folder: Path
    every: int = 1


def parse_png_path(spec: SinkSpec) -> PngTarget:
    """Take ``FOLDER[?every=N]`` apart; raises ConfigError if it cannot be read."""
    folder, mark, option = spec.path.partition("?")
    if not mark:
        return PngTarget(Path(folder))
    name, _, value = option.partition("=")
    if not folder or name != "every" or not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"sink: {spec.label!r}; expected png:FOLDER?every=N, N from 1. Try: png:o?every=25")
    return PngTarget(Path(folder), int(value))


class PngSink:
    """Writes snapshots into a folder, which it makes."""

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self._spec = spec
        self._target = parse_png_path(spec)
        self._last_block: tuple[int, int, int] | None = None
        try:
            self._target.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(spec, self._target.folder, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise ConfigError for an option that cannot be read, SinkError for a folder that cannot be used."""
        check_output_folder(spec, parse_png_path(spec).folder)

    def write(self, presented: Presented) -> None:
        """Keep the picture if it is the first of its ``every`` frames; raises SinkError on a full disk."""
        key = presented.frame.key
        # By blocks of the source's count: a dropped frame then costs no snapshot, the next one stands in.
        block = (key.source_id, key.loop, key.seq // self._target.every)
        if presented.synthetic or block == self._last_block:
            return
        self._last_block = block
        # Level 1: half the time of the default for a tenth more bytes on real frames.
        _, png = cv2.imencode(".png", presented.frame.image_bgr, (cv2.IMWRITE_PNG_COMPRESSION, 1))
        path = self._target.folder / snapshot_name(key)
        unfinished = path.with_suffix(".png.part")
        try:
            unfinished.write_bytes(png.tobytes())
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise cannot_write(self._spec, path, error) from error

    def close(self) -> None:
        """Every file is finished already."""


def snapshot_name(key: FrameKey) -> str:
    """File name of the frame ``key``; names sort in the order of presentation."""
    return f"source{key.source_id}_loop{key.loop}_seq{key.seq:06d}.png"
