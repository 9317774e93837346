"""The witness's sender: moving pictures with a code in each, written as YUV4MPEG2 at their due time like a camera's.

Everything that shows video reads this format from a pipe, ours through ``pipe:``, so all are fed the same way. The time
in the code is taken when the picture is complete and about to be handed over. A receiver that does not keep up costs
frames here, as with a camera; they are logged as not sent, so that nobody else is blamed. On purpose it can drop,
repeat, swap and tear frames: the witness must find each. Separate from who looks. It never decides what was seen.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError, SinkError

from ..clock import Clock
from ..frame import SizeHW
from ..source import SourceOptions, open_source
from .witness_code import Code, draw_code, unit_px

_BASE_FRAMES = 50
"""Pictures under the codes, played again and again; 2 s at 25 fps."""
_OPEN_TIMEOUT_S = 30.0
_FAULT = re.compile(r"(drop|repeat|swap|tear)@(\d+)")
_CONCERNED = {"drop": (0,), "repeat": (0, 1), "swap": (0, 1), "tear": (-1, 0)}
"""Frames that a fault at N needs, from N on."""

NOBODY_READS = "nobody reads it"
"""Said of a pipe whose other end was not opened in time."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One due time of the sender.

    Attributes:
        slot: count of due times.
        number: of the frame that was sent in it, None for none.
        bottom: number in the lower band, where the picture was torn on purpose.
        code_ns: monotonic time in the code.
        written_ns: when the last byte was handed over.
        cause: why nothing or something else was sent: drop, repeat, swap, tear, late.
    """

    slot: int
    number: int | None
    bottom: int | None
    code_ns: int
    written_ns: int
    cause: str = ""


def parse_fault(text: str) -> tuple[int, str]:
    """``repeat@50`` as (50, "repeat"); raises ConfigError for anything else."""
    match = _FAULT.fullmatch(text)
    if match is None:
        raise ConfigError(f"fault: {text!r}; expected drop@N, repeat@N, swap@N or tear@N")
    return int(match[2]), match[1]


def faults_of(texts: Iterable[str]) -> dict[int, str]:
    """Faults by frame; raises ConfigError for two that concern the same frame, for one would undo the other."""
    faults: dict[int, str] = {}
    taken: dict[int, str] = {}
    for text in texts:
        at, kind = parse_fault(text)
        for frame in _CONCERNED[kind]:
            if (other := taken.setdefault(at + frame, text)) is not text:
                raise ConfigError(f"fault: {text} and {other} both concern frame {at + frame}; expected one")
        faults[at] = kind
    return faults


def planned(slots: int, faults: dict[int, str]) -> list[tuple[int | None, int | None, str]]:
    """Number, lower number and cause for each slot; a fault at N concerns N and, for repeat and swap, N + 1."""
    plan: list[tuple[int | None, int | None, str]] = [(number, None, "") for number in range(slots)]
    for at, kind in faults.items():
        if at >= slots or (kind in ("repeat", "swap") and at + 1 >= slots) or (kind == "tear" and not at):
            raise ConfigError(f"fault: {kind}@{at}; expected a frame that is sent, of {slots}")
        if kind == "drop":
            plan[at] = (None, None, kind)
        elif kind == "repeat":
            plan[at + 1] = (at, None, kind)
        elif kind == "swap":
            plan[at], plan[at + 1] = (at + 1, None, kind), (at, None, kind)
        else:
            plan[at] = (at, at - 1, kind)
    return plan


@dataclass(frozen=True, slots=True)
class BasePictures:
    """What lies under the codes: I420 planes, each (3/2 · H) × W uint8, BT.601, limited range."""

    size_hw: SizeHW
    planes: list[npt.NDArray[np.uint8]]


def require_size(width: int, height: int) -> None:
    """Raise ConfigError for a size that cannot be sent (I420), or cannot hold the code."""
    if height % 2 or width % 2:
        even = f"phantom:{width - width % 2}x{height - height % 2}"
        raise ConfigError(f"witness: {width} × {height}; expected even sides. Try: {even}")
    try:
        unit_px(width, height)
    except ValueError as error:
        raise ConfigError(f"witness: {error}") from error


def base_pictures(address: str) -> BasePictures:
    """The first pictures of a source; raises ConfigError for a size that cannot hold the code."""
    with open_source(address, SourceOptions()) as source:
        height, width = source.info.size_hw
        require_size(width, height)
        image_bgr = np.empty((height, width, 3), np.uint8)
        planes = []
        for picture in islice(source, _BASE_FRAMES):
            picture.fill(image_bgr)
            planes.append(np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YUV_I420), np.uint8))
    return BasePictures((height, width), planes)


def play(
    base: BasePictures,
    fps: Fraction,
    plan: list[tuple[int | None, int | None, str]],
    out: BinaryIO,
    clock: Clock,
) -> Iterator[Slot]:
    """Write header and frames at their due times; yields what was done in each slot.

    Raises:
        BrokenPipeError: the receiver has gone.
    """
    height, width = base.size_hw
    header = f"YUV4MPEG2 W{width} H{height} F{fps.numerator}:{fps.denominator} Ip A1:1 C420jpeg"
    out.write(header.encode() + b"\n")
    out.flush()
    period_ns = Fraction(1_000_000_000) / fps
    start_ns = clock.now_ns()
    times: dict[int, int] = {}
    for slot, (number, bottom, cause) in enumerate(plan):
        due_ns = start_ns + int(slot * period_ns)
        clock.sleep_until_ns(due_ns)
        if clock.now_ns() - due_ns > period_ns:
            yield Slot(slot, None, None, 0, 0, "late")
            continue
        if number is None:
            yield Slot(slot, None, None, 0, 0, cause)
            continue
        code_ns = times.setdefault(number, clock.now_ns())
        lower = None if bottom is None else _code(bottom, times.get(bottom, code_ns))
        out.write(b"FRAME\n" + _drawn(base, _code(number, code_ns), lower).tobytes())
        out.flush()
        yield Slot(slot, number, bottom, code_ns, clock.now_ns(), cause)


def _code(number: int, code_ns: int) -> Code:
    return Code(number, code_ns // 1000 % (1 << 32))


def _drawn(base: BasePictures, code: Code, bottom: Code | None) -> npt.NDArray[np.uint8]:
    height = base.size_hw[0]
    picture = base.planes[code.number % len(base.planes)].copy()
    draw_code(picture[:height], code, bottom=bottom)
    return picture


def open_pipe(path: str) -> BinaryIO:
    """Stdout for ``-``, else a named pipe or a file, once somebody reads it; raises SinkError if nobody does."""
    if path == "-":
        return os.fdopen(os.dup(1), "wb", buffering=0)
    deadline = time.monotonic() + _OPEN_TIMEOUT_S
    flags = os.O_WRONLY | (0 if Path(path).is_fifo() else os.O_CREAT | os.O_TRUNC)
    while True:
        try:
            fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
            break
        except OSError as error:
            if not Path(path).is_fifo():
                raise SinkError(f"witness: {path}; cannot be written ({error.strerror})") from error
            if time.monotonic() > deadline:
                raise SinkError(f"witness: {path}; {NOBODY_READS}") from error
            time.sleep(0.02)
    os.set_blocking(fd, True)
    return os.fdopen(fd, "wb", buffering=0)


def slots_of(log: Path) -> list[Slot]:
    """What a SlotLog has written; raises ConfigError for anything else."""
    try:
        return [Slot(**json.loads(line)) for line in log.read_text().splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"log: {log}; expected what witness play --log has written ({error})") from error


class SlotLog:
    """Writes slots as JSON lines, at the end of the run, so that no disk is waited for in between."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.slots: list[Slot] = []

    def close(self) -> None:
        """Write the file, if there is one; raises SinkError where it cannot be written."""
        if self._path is None:
            return
        text = "".join(json.dumps(asdict(slot)) + "\n" for slot in self.slots)
        try:
            self._path.write_text(text)
        except OSError as error:
            raise SinkError(f"witness: {self._path}; cannot be written ({error.strerror})") from error
