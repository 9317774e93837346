"""Reads a session's ``frames.jsonl`` back: which frames were presented, when, and what was said of each.

Shared by the source that plays a session's video and by the stage that stands in for the network, so that both number
the frames alike: a frame's number is its place among those that were presented, pictures of our own left out. A line
that was not finished, or cannot be read, is left out too. It opens no video.
"""

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..frame import Annotation, MaskState
from ..wire import MaskShape
from .session import LOG_FILE


@dataclass(frozen=True, slots=True)
class LoggedFrame:
    """Where a frame stands: its part, its time in that part's raw video (None if it is not there), its own time, and
    where its line begins in the file."""

    part: int
    raw_ms: int | None
    time_ns: int
    origin: tuple[int, int]
    offset: int


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """What was said of a frame, and its mask."""

    annotation: Annotation
    mask: MaskShape | None
    packed: bytes


class SessionLog:
    """The frames of a session in the order in which they were presented; raises OSError if there is no log."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOG_FILE).open("rb")
        self.frames: list[LoggedFrame] = []
        offset = 0
        for line in self._file:
            frame = _frame(line, offset)
            offset += len(line)
            if frame is not None:
                self.frames.append(frame)

    def answer(self, number: int) -> LoggedAnswer:
        """What was said of the frame ``number``; IndexError if there is none, ValueError if its mask is damaged."""
        self._file.seek(self.frames[number].offset)
        return answer_of(json.loads(self._file.readline()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _frame(line: bytes, offset: int) -> LoggedFrame | None:
    """None for what is no frame of the source, or no whole line."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
        if record["synthetic"]:
            return None
        numerator, _, denominator = record["time_base"].partition("/")
        time_ns = record["pts"] * int(numerator) * 1_000_000_000 // int(denominator)
        origin = (record["loop"], record["source"])
        return LoggedFrame(record["part"], record["raw_ms"], time_ns, origin, offset)
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def answer_of(record: dict[str, Any]) -> LoggedAnswer:
    """From a line to what was said; raises ValueError if it cannot be understood."""
    try:
        state = MaskState[record["state"].upper()]
        age_ms = record["mask_age_ms"]
        annotation = Annotation(
            state,
            record["mask_seq"],
            None if age_ms is None else round(age_ms * 1e6),
            mask_crc32=record["mask_crc32"],
            cause=record["cause"],
        )
        if record["mask"] is None:
            return LoggedAnswer(annotation, None, b"")
        height, width = record["mask_hw"]
        shape = MaskShape((height, width), tuple(record["transform"]), tuple(record["view"]))
        return LoggedAnswer(annotation, shape, zlib.decompress(base64.b64decode(record["mask"])))
    except (KeyError, TypeError, zlib.error, binascii.Error) as error:
        raise ValueError(
            f"a line of {LOG_FILE} cannot be understood ({type(error).__name__}: {error})"
        ) from error
