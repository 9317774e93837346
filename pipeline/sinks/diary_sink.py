"""The presenting sink ``diary:PATH``: shows nothing, and notes in the display process itself what was presented when.

Where ``jsonl`` writes in the record process, this is independent of it: what ``endostream faults`` measures by must
go on when record dies. One short line of JSON for each picture, flushed at once, some 20 µs; a restarted display
process goes on in the same file.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..frame import Presented
from ..sink import SinkContext, SinkSpec
from .output_path import cannot_write, check_output_file


@dataclass(frozen=True, slots=True)
class DiaryLine:
    """One picture that was presented: its key without the source, two moments (monotonic), and what was said of it.

    ``mask_ns`` is the capture time of the frame that its mask was computed from, None without a mask.
    """

    loop: int
    seq: int
    capture_ns: int
    present_ns: int
    state: str
    mask_ns: int | None
    synthetic: bool


class DiarySink:
    """Appends the lines."""

    needs_picture = False

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        path = Path(spec.path)
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(spec, path, error) from error

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
        """Note one picture."""
        frame, note = presented.frame, presented.annotation
        mask_ns = None if note.mask_age_ns is None else frame.capture_ns - note.mask_age_ns
        fields = (frame.key.loop, frame.key.seq, frame.capture_ns, time.monotonic_ns())
        line = [*fields, note.state.label, mask_ns, presented.synthetic]
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()


def read_diary(path: Path) -> list[DiaryLine]:
    """All whole lines, in order; none if there is no file."""
    text = path.read_text(encoding="ascii") if path.exists() else ""
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [DiaryLine(*json.loads(line)) for line in whole]
