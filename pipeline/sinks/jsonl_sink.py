"""The sink ``jsonl:PATH``: one line of JSON for each presented frame, flushed at once.

It is what a recording is checked against: it has the frame's own key and time, what was drawn, and both
delays. A killed process loses no line but the one it was writing. It holds no pictures, and totals are the
report's.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endostream.configs.errors import SinkError

from ..frame import Presented
from ..sink import SinkContext, SinkSpec
from .output_path import cannot_write, check_output_file


class JsonlSink:
    """Writes the lines; after a restart of the run's record process (part > 0) it goes on in the same file."""

    needs_picture = False
    """So a run that only writes a log copies no picture for it."""

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self._spec = spec
        self._path = Path(spec.path)
        try:
            if context.part:
                cut_torn_line(self._path)
            self._file = self._path.open("ab" if context.part else "wb", buffering=0)
        except OSError as error:
            raise cannot_write(spec, self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise SinkError for a path that cannot be written."""
        check_output_file(spec, Path(spec.path))

    def write(self, presented: Presented) -> None:
        """Write one line; raises SinkError when the disk is full."""
        line = json.dumps(record_of(presented), separators=(",", ":")).encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise cannot_write(self._spec, self._path, error) from error
        if written != len(line):
            raise SinkError(
                f"sink {self._spec.label}: {self._path} is full. Try: another path, or free space"
            )

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()


def record_of(presented: Presented) -> dict[str, Any]:
    """What a line holds. Times end in their unit; null stands for what there is none of."""
    frame, annotation = presented.frame, presented.annotation
    return {
        "source": frame.key.source_id,
        "loop": frame.key.loop,
        "seq": frame.key.seq,
        "pts": frame.pts,
        "time_base": f"{frame.time_base.numerator}/{frame.time_base.denominator}",
        "time_s": round(float(frame.pts * frame.time_base), 6),
        "state": annotation.state.label,
        "mask_seq": annotation.mask_seq,
        "mask_age_ms": _ms(annotation.mask_age_ns),
        "boxes": [list(box) for box in annotation.boxes],
        "area_px": annotation.area_px,
        "mask_crc32": annotation.mask_crc32,
        "hud": None if presented.hud is None else list(presented.hud),
        "video_delay_ms": None if presented.synthetic else _ms(presented.video_delay_ns),
        "annotation_delay_ms": _ms(presented.annotation_delay_ns),
        "capture_ns": frame.capture_ns,
        "present_ns": presented.present_ns,
        "synthetic": presented.synthetic,
        "cause": annotation.cause,
    }


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6, 4)


def cut_torn_line(path: Path) -> None:
    """Cut off what follows the last end of line: the rest of a line that a killed process did not finish."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        tail_from = max(0, end - 1_000_000)
        file.seek(tail_from)
        file.truncate(tail_from + file.read().rfind(b"\n") + 1)
