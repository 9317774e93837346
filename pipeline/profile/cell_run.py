"""Runs one cell of the matrix once: the real command, in processes of its own, with a frame log and a report.

Separate from what is worked out of them. The source is decoded and resized beforehand (``memory:``), so that decoding
is not counted; the machine is watched meanwhile.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError
from endostream.configs.load import load_config, parse_override
from endostream.replay.decoded import VARIABLE

from ..request import checked_request
from .machine_watch import MachineWatch, Sample
from .matrix import OPTION_OF, Cell

COMMAND = (sys.executable, "-P", "-m", "endostream.pipeline")
_GLANCE_S = 0.5
_LAST_WORDS = 2000
_GRACE_S, _PATIENCE_S = 3.0, 20.0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How long each run is, and what else it is told.

    Attributes:
        options: of ``endostream replay``, as typed.
        decoded: folder of pictures decoded beforehand, None to have each run decode its own.
    """

    warm_up_s: float
    duration_s: float
    options: tuple[str, ...] = ()
    decoded: Path | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left behind.

    Attributes:
        words: the command as a user would type it, outputs left out.
        started_ns: monotonic, just before it was started.
        report: its report; {} if it did not get so far.
        log: its frame log, which need not exist.
        errors: what it wrote to stderr.
    """

    words: list[str]
    exit_code: int
    started_ns: int
    report: dict[str, Any]
    log: Path
    samples: list[Sample]
    errors: str


def command_words(cell: Cell, plan: RunPlan) -> list[str]:
    """What is run, outputs left out."""
    played_s = plan.warm_up_s + plan.duration_s
    what = ("live", cell.source) if cell.is_live else ("replay", f"memory:{cell.source}")
    words = [*what, "--duration", f"{played_s:g}", *plan.options]
    return words + [part for setting in cell.settings() for part in ("--set", setting)]


def check_cell(cell: Cell, options: Sequence[str]) -> None:
    """Refuse what every run of the cell would refuse, and a setting that the cell itself makes, before anything runs.

    Raises:
        ConfigError, SourceMissing, SinkError: as a run would.
    """
    given: dict[str, list[str]] = {"--sink": [], "--config": [], "--set": []}
    for option, text in zip(options[::2], options[1::2], strict=True):
        given[option].append(text)
    own = {parse_override(text).key for text in cell.settings()}
    for key in (parse_override(text).key for text in given["--set"]):
        if key in own:
            option = OPTION_OF[key.rpartition(".")[2]]
            raise ConfigError(f"--set: {key}; is set for each cell. Try: --{option}")
    file = Path(given["--config"][0]) if given["--config"] else None
    loaded = load_config(file, [*given["--set"], *cell.settings()])
    checked_request([cell.source], given["--sink"], None, loaded)


def decode_beforehand(cells: Sequence[Cell], plan: RunPlan, folder: Path) -> RunPlan:
    """Have every source of the cells decoded once, by a run that is not measured, and kept for the runs that are.

    There is one for each segmenter and runtime, to warm up their caches too: what is measured is never a program's
    first start on this machine.
    """
    glance = replace(plan, warm_up_s=0.0, duration_s=_GLANCE_S, decoded=folder)
    once = {
        (cell.source, cell.size, cell.segmenter, cell.runtime): cell for cell in cells if not cell.is_live
    }
    for cell in once.values():
        run_cell(replace(cell, pace="back-to-back"), glance, folder)
    return replace(plan, decoded=folder)


def run_cell(cell: Cell, plan: RunPlan, folder: Path) -> Ran:
    """Run it to its end, or until we are interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    log, report = folder / "frames.csv", folder / "report.json"
    words = command_words(cell, plan)
    outputs = ["--quiet", "--sink", f"trace:{log}", "--report", str(report)]
    with tempfile.TemporaryFile() as errors:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            [*COMMAND, *words, *outputs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | ({VARIABLE: str(plan.decoded)} if plan.decoded is not None else {}),
        )
        with MachineWatch(process.pid) as watch:
            exit_code = _wait(process)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")[-_LAST_WORDS:]
    return Ran(["endostream", *words], exit_code, started_ns, _read(report), log, watch.samples, said)


def _read(report: Path) -> dict[str, Any]:
    """The report; {} if there is none, or only a part, as on a full disk."""
    try:
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """The exit code. A terminal interrupts the run too, which then finishes its files; nobody else does, so we do."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        for patience_s, number in ((_GRACE_S, signal.SIGINT), (_PATIENCE_S, signal.SIGKILL)):
            try:
                process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        process.wait()
        raise
