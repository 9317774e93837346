"""The soak of ``endostream faults --soak MINUTES``: one long run, a fault a minute in turn, and a look for what grows.

Separate from the matrix, which looks at single faults. Every five seconds the memory, handles, threads, sockets and
shared memory of all processes of the run are noted. What counts is the slope over the quiet samples after the first
two minutes: those that do not lie within 20 s after a fault. A fault that ends a recording for good (a sink that
failed stays closed) is not in the turn. Exit code 5 if anything grew, or a promise of the run was not kept.
"""

import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from endostream.configs.errors import ExitCode, SinkError
from endostream.configs.schema import Config

from .. import app
from ..environment import environment
from ..report import Report
from ..report_table import table_of, widen
from ..request import RunRequest
from ..sink import parse_sink
from ..supervisor import Supervisor
from .fault_cells import MEMORY_LIMIT, Cell, all_cells
from .fault_run import do_fault
from .soak_growth import Growth, grown, growths
from .soak_plot import check_plot, plot_soak
from .soak_sample import Sample, take_sample

if TYPE_CHECKING:
    from .faults import FaultsRequest

SAMPLE_NS, FAULT_NS = 5_000_000_000, 60_000_000_000
WARM_UP_NS = 120_000_000_000
"""What may still grow: caches, pools, the first of everything."""
_SETTINGS = ("record.crf=35",)
"""Half an hour of video has to fit somewhere."""
_SETTLING_NS = 20_000_000_000
logger = logging.getLogger("endostream")


@dataclass(slots=True)
class Soak:
    """What came of it. ``faults``: seconds and names, as they were done."""

    source: str
    minutes: float
    command: str
    environment: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)


def cells_in_turn() -> list[Cell]:
    """Faults that a run survives whole, one stage after the other rather than one after the other of a stage."""
    lasting = [cell for cell in all_cells() if not cell.exit_code]
    place = {cell.name: number for number, cell in enumerate(lasting)}
    rows: dict[str, int] = {}
    ranked = []
    for cell in lasting:
        rows[cell.stage] = rows.get(cell.stage, 0) + 1
        ranked.append((rows[cell.stage], place[cell.name], cell))
    return [cell for *_, cell in sorted(ranked, key=lambda one: one[:2])]


class Soaker:
    """Called by the supervisor some fifty times a second: samples, faults, and the end."""

    def __init__(self, soak: Soak, outputs: Path) -> None:
        self._soak = soak
        self._outputs = outputs
        self._cells = cells_in_turn()
        self._begun_ns = time.monotonic_ns()
        self._next_sample_ns = self._begun_ns + SAMPLE_NS
        self._next_fault_ns = self._begun_ns + FAULT_NS
        self._fault_ns = 0

    def __call__(self, supervisor: Supervisor) -> None:
        """Look, and do what is due."""
        now_ns = time.monotonic_ns()
        at_s = (now_ns - self._begun_ns) / 1e9
        if now_ns >= self._next_sample_ns:
            self._next_sample_ns += SAMPLE_NS
            warm = now_ns - self._begun_ns > WARM_UP_NS
            quiet = warm and now_ns - self._fault_ns > _SETTLING_NS
            self._soak.samples.append(take_sample(at_s, quiet))
        elif at_s >= self._soak.minutes * 60:
            supervisor.finish()
        elif now_ns >= self._next_fault_ns:
            self._next_fault_ns += FAULT_NS
            self._fault_ns = now_ns
            cell = self._cells[len(self._soak.faults) % len(self._cells)]
            self._soak.faults.append((round(at_s, 1), cell.name))
            print(f"{at_s / 60:5.1f} min: {cell.name}: {cell.words}", file=sys.stderr, flush=True)
            do_fault(cell, supervisor, self._outputs)


def soak_command(request: "FaultsRequest") -> int:
    """Soak, publish, return the exit code."""
    if request.plot is not None:
        check_plot(request.plot)
    config = request.load((*_SETTINGS, *MEMORY_LIMIT)).config
    soak = Soak(request.source, request.soak_minutes, request.command, environment())
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="endostream-soak-") as folder:
        report = _play(soak, config, Path(folder))
    logger.setLevel(level)
    if report is None:
        return ExitCode.INTERRUPTED
    judge(soak, report)
    _publish(soak, request)
    return ExitCode.CHECK if soak.broken else ExitCode.DONE


def _play(soak: Soak, config: Config, folder: Path) -> Report | None:
    """The run; None if it was interrupted."""
    sinks = [parse_sink("null"), parse_sink(f"video:{folder / 'recording.mp4'}")]
    request = RunRequest([soak.source], sinks, None, config, quiet=True)
    totals, outcome = app.play(request, Soaker(soak, folder), chaos=True)
    return None if outcome.interrupted else app.concluded(totals, outcome, request)


def judge(soak: Soak, report: Report) -> None:
    """Fill in growth, the run's own figures, and what is not as it must be."""
    soak.growth = growths([sample for sample in soak.samples if sample.quiet])
    frames = report.frames
    soak.run = {
        "captured": frames.captured,
        "presented": frames.presented,
        "dropped": frames.dropped,
        "no_signal": frames.synthetic,
        "longest_freeze_ms": report.longest_freeze_ms,
        "restarts": {name: stage.restarts for name, stage in report.stages.items()},
        "mask_state": report.mask_state,
        "video_delay_ms": report.video_delay_ms,
        "annotation_delay_ms": report.annotation_delay_ms,
        "ledger_closed": frames.ledger_closed,
        "exit_code": report.exit_code,
    }
    soak.broken = [f"{growth.what} grew by {growth.rise:.1f}" for growth in grown(soak.growth)]
    soak.broken += [] if soak.growth else ["too short for a verdict: no quiet samples after two minutes"]
    soak.broken += [] if frames.ledger_closed else ["ledger not closed"]
    soak.broken += [f"exit code {report.exit_code} instead of 0"] if report.exit_code else []


def soak_json(soak: Soak) -> str:
    """Everything, for machines."""
    fields = {"schema": 1, "met": not soak.broken} | asdict(soak)
    return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def _publish(soak: Soak, request: "FaultsRequest") -> None:
    text = soak_json(soak)
    if request.report is not None:
        try:
            request.report.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SinkError(f"report: {request.report}; cannot be written ({error.strerror})") from error
    if request.plot is not None:
        plot_soak(soak, request.plot)
    if request.json:
        sys.stdout.write(text)
    else:
        print_soak(soak, Console())


def print_soak(soak: Soak, console: Console) -> None:
    """What was looked at, and whether it grew."""
    widen(console)
    columns = ("what", "median", "lowest", "highest", "rise", "allowed", "verdict")
    table = table_of(f"Soak of {soak.minutes:g} minutes, {len(soak.faults)} faults", columns)
    for growth in soak.growth:
        verdict = "[red]grows[/]" if growth.grows else "[green]does not grow[/]"
        numbers = (growth.median, growth.lowest, growth.highest, growth.rise, growth.allowed)
        table.add_row(growth.what, *(f"{number:.1f}" for number in numbers), verdict)
    console.print(table)
    for line in soak.broken:
        console.print(f"[red]not as it must be:[/] {line}")
