"""Cells measured from outside: any program that shows video, by the witness's code in the picture.

The program is given a named pipe with YUV4MPEG2 in place of ``{input}``, and an eye reads the codes from the X server's
frame buffer (``docs/witness.md``), the same for ours and for others. Separate from cells of our own stamps, whose
delays end earlier: only figures of one measurer compare.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from endostream.configs.errors import ConfigError, EndostreamError, ExitCode

from ..source import is_live, open_source
from ..witness.witness_measure import Measured as Witnessed
from ..witness.witness_measure import Measurement
from ..witness.witness_measure import measure as witness
from ..witness.witness_play import require_size
from ..witness.witness_verdict import Seen
from .digest import RunDigest
from .machine_watch import MachineWatch
from .measure import Counted, Measured, Window
from .result import RunResult
from .series import Values

MEASURER = "the witness: a code in the picture, read from the screen"
_BASE = "phantom:720x576@25"
FAULTS = ("lost", "repeated", "reordered", "torn", "not_sent")
"""What the witness counts of frames, warm-up included; not sent: the program was not there to take them."""


@dataclass(frozen=True, slots=True)
class ExternalCell:
    """A program to be measured, and the pictures it is given: ``base`` is their source."""

    command: str
    base: str
    size_wh: tuple[int, int]
    fps: Fraction

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"external: {self.command}, {self.size_wh[0]}×{self.size_wh[1]}, {float(self.fps):g} fps"

    def settings(self) -> dict[str, Any]:
        """For profile.json, as those of a cell of our own."""
        fps = float(self.fps)
        return {
            "external": self.command,
            "source": self.base,
            "size": list(self.size_wh),
            "fps": fps,
            "pace": "live",
            "decoded_beforehand": False,
        }


def external_cells(
    commands: Sequence[str],
    sources: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    rates: Sequence[str | None],
) -> list[ExternalCell]:
    """Each command with each source, size and rate; raises ConfigError for what the witness cannot send."""
    for command in commands:
        if "{input}" not in command:
            raise ConfigError(f"external: {command!r}; expected {{input}} where the pipe's path goes")
    choices = itertools.product(commands, sources or [_BASE], sizes, rates)
    return [_cell(command, source, size, rate) for command, source, size, rate in choices]


def _cell(command: str, source: str, size: tuple[int, int] | None, rate: str | None) -> ExternalCell:
    if is_live(source):
        raise ConfigError(f"external: {source} is live; expected a recording or phantom: to send")
    if size is not None:
        if source != "phantom:" and not source.startswith("phantom:"):
            raise ConfigError(
                f"external: --size with {source}; expected phantom:, other sources keep their size"
            )
        source = f"phantom:{size[0]}x{size[1]}@{rate or 25}"
    with open_source(source) as opened:
        height, width = opened.info.size_hw
        fps = Fraction(rate) if rate is not None else opened.info.fps or Fraction(25)
    require_size(width, height)
    return ExternalCell(command, source, (width, height), fps)


def run_external(cell: ExternalCell, warm_up_s: float, duration_s: float, repeat: int) -> RunResult:
    """Measure it once; what went wrong stands in the result."""
    frames = max(2, round((warm_up_s + duration_s) * cell.fps))
    facts: dict[str, Any] = {"repeat": repeat, "command": [cell.command], "exit_code": 0, "errors": ""}
    window = Window(warm_up_s, round(1e9 / cell.fps), True)
    with MachineWatch() as watch:
        try:
            seen = witness(Measurement(cell.command, cell.base, cell.size_wh, cell.fps, frames))
        except EndostreamError as error:
            facts |= {"exit_code": int(error.exit_code), "errors": str(error)}
            return RunResult(Measured(RunDigest(0, 1), window), facts, {}, watch.samples)
    facts["witness"] = {name: len(getattr(seen.verdict, name)) for name in FAULTS}
    facts["witness"] |= {"looks": seen.looks, "unreadable_looks": seen.unreadable}
    if seen.incomplete:
        facts |= {"exit_code": int(ExitCode.FAILED), "errors": seen.incomplete}
    return RunResult(measured_from(seen, window), facts, {}, watch.samples)


def witness_faults(cell: dict[str, Any]) -> dict[str, int]:
    """Frames of all runs of a cell by what was wrong with them."""
    return {name: sum(run.get("witness", {}).get(name, 0) for run in cell["runs"]) for name in FAULTS}


def measured_from(seen: Witnessed, window: Window) -> Measured:
    """The witness's sightings as a run: each frame's first, from the end of the warm-up on."""
    first: dict[int, Seen] = {}
    for sighting in seen.seen:
        if sighting.other is None:
            first.setdefault(sighting.number, sighting)
    sightings = sorted(first.values(), key=lambda one: one.seen_ns)
    at_ns = np.array([round(one.seen_ns) for one in sightings], np.int64)
    begin_ns = int(at_ns[0]) + int(window.warm_up_s * 1e9) if len(at_ns) else 0
    digest = RunDigest(begin_ns, int(at_ns[-1]) if len(at_ns) else 1)
    delays = np.array([round(one.delay_ns) for one in sightings], np.int64)
    errors = np.array([round(one.error_ns) for one in sightings], np.int64)
    digest.add("witness.delay", Values(at_ns, delays))
    digest.add("witness.interval", Values(at_ns[1:], at_ns[1:] - at_ns[:-1]))
    digest.add("witness.error", Values(at_ns, errors))
    digest.close()
    measured = Measured(digest, window)
    inside = int(np.count_nonzero(at_ns >= begin_ns))
    measured.counted = Counted(presented=inside, dropped=_dropped(seen, window, window.warm_up_s))
    measured.whole = Counted(presented=len(at_ns), dropped=_dropped(seen, window, 0.0))
    return measured


def _dropped(seen: Witnessed, window: Window, from_s: float) -> Counter[str]:
    """Frames that were due from then on and not seen: sent and lost, or not sent, for nobody was there to take them."""
    missing = {"lost": seen.verdict.lost, "not_sent": seen.verdict.not_sent}
    counted = {
        cause: sum(_slot_s(number, window) >= from_s for number in numbers)
        for cause, numbers in missing.items()
    }
    return Counter({cause: frames for cause, frames in counted.items() if frames})


def _slot_s(number: int, window: Window) -> float:
    """When a frame was due, seconds since the first."""
    return number * (window.period_ns or 0) / 1e9
