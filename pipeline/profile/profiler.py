"""Makes a profile: runs every cell as often as asked for, works the logs through, and writes all that comes of it.

Into one folder (``out_folder.py``): ``profile.json`` (everything), ``frames.csv`` (every frame of every run with every
stamp; also ``frames.parquet`` where pyarrow is installed), ``profile.html``, ``trace.json``. Repeats go round the cells
in turn (1, 2, 3, 1, 2, 3 …), so that a slow minute of the machine does not fall on one cell alone. A cell that fails is
told and the others go on.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, ExitCode, SinkError
from endostream.configs.schema import frame_rate

from ..environment import environment
from ..sinks.trace_row import COLUMNS
from .budget import Budget, Verdict, check
from .cell_run import Ran, RunPlan, check_cell, decode_beforehand, run_cell
from .chrome_trace import Event, run_events, write_trace
from .external import MEASURER, ExternalCell, run_external
from .frame_log import Span, whole_lines
from .matrix import Cell
from .measure import Measured, Window, measure_log, measure_rows
from .out_folder import fresh_folder, put_in_place
from .page import write_page
from .report_page import profile_page
from .result import KIND, SCHEMA, RunResult, cell_json, write_profile
from .words import measured_words, unmeasured_words

_RUN_COLUMNS = ("cell", "repeat", "counted")
Say = Callable[[str], None]
Results = list[tuple[Cell | ExternalCell, list[RunResult]]]


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """A profile to be made.

    Attributes:
        warm_up_s: left out of every figure; 0 where the first frames count.
        external: programs measured from outside, beside the cells.
        options: of ``endostream replay``, for every run, as typed.
        command: the command line, for the report.
    """

    cells: Sequence[Cell]
    out: Path
    external: Sequence[ExternalCell] = ()
    warm_up_s: float = 2.0
    duration_s: float = 20.0
    repeats: int = 3
    budgets: Sequence[Budget] = ()
    options: tuple[str, ...] = ()
    command: Sequence[str] = ()

    @property
    def plan(self) -> RunPlan:
        """What each run is told."""
        return RunPlan(self.warm_up_s, self.duration_s, self.options)

    def to_json(self) -> dict[str, Any]:
        """For profile.json."""
        return {
            "warm_up_s": self.warm_up_s,
            "first_frames": self.warm_up_s == 0,
            "duration_s": self.duration_s,
            "repeats": self.repeats,
            "options": list(self.options),
        }


@dataclass(slots=True)
class Made:
    """What came of it: the profile as data, where it lies, what its budgets say, and the first exit code of its runs
    that is not 0."""

    profile: dict[str, Any]
    folder: Path
    verdicts: list[Verdict] = field(default_factory=list)
    exit_code: int = 0


def make_profile(request: ProfileRequest, say: Say) -> Made:
    """Run everything and write everything; ``say`` takes lines on how far it is.

    What every run would refuse is refused before: then nothing is run, and what lies in the folder stays.
    """
    for checked in request.cells:
        check_cell(checked, request.options)
    machine, created = environment(), datetime.now(UTC).isoformat(timespec="seconds")
    everything: list[Cell | ExternalCell] = [*request.cells, *request.external]
    results: Results = [(cell, []) for cell in everything]
    with fresh_folder(request.out) as fresh:
        interrupted = _interrupted(request, results, fresh, say)
        if interrupted:
            say("interrupted: what is there so far is written")
        made = _write(request, results, fresh, machine, created)
        made.folder = put_in_place(fresh, request.out, not interrupted and made.exit_code == 0)
    if made.folder != request.out:
        say(f"unfinished: what there is lies in {made.folder}; the earlier profile in {request.out} stays")
    if interrupted:
        raise KeyboardInterrupt
    return made


def _interrupted(request: ProfileRequest, results: Results, fresh: Path, say: Say) -> bool:
    """Run all cells, the results go behind each; whether somebody ended it before."""
    with FrameFile(fresh / "frames.csv") as frames, _scratch(fresh) as decoded:
        try:
            say("decoding beforehand")
            plan = decode_beforehand(request.cells, request.plan, Path(decoded))
            for repeat in range(1, request.repeats + 1):
                for cell, runs in results:
                    say(f"run {repeat} of {request.repeats}: {cell.name}")
                    runs.append(_run(request, plan, cell, repeat, frames))
        except KeyboardInterrupt:
            return True
    return False


def _run(
    request: ProfileRequest, plan: RunPlan, cell: Cell | ExternalCell, repeat: int, frames: "FrameFile"
) -> RunResult:
    if isinstance(cell, ExternalCell):
        return run_external(cell, request.warm_up_s, request.duration_s, repeat)
    with _scratch(frames.path.parent) as scratch:
        ran = run_cell(cell, plan, Path(scratch))
        share = None if cell.paced else request.warm_up_s / (request.warm_up_s + request.duration_s)
        window = Window(request.warm_up_s, period_ns(cell, ran.report), cell.paced, share)
        measured = _measured(ran, window)
        frames.add(cell.name, repeat, ran.log, measured)
    facts = {
        "repeat": repeat,
        "command": ran.words,
        "exit_code": ran.exit_code,
        "errors": ran.errors.strip() if ran.exit_code else "",
    }
    return RunResult(measured, facts, ran.report, ran.samples, ran.started_ns)


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="run-", dir=folder)


def _measured(ran: Ran, window: Window) -> Measured:
    """What its log says: nothing, of a run that failed before it could write one, as on a full disk."""
    try:
        return measure_log(ran.log, window)
    except (ConfigError, FileNotFoundError):
        if not ran.exit_code:
            raise
    return measure_rows([], Span(0, 0), window)


def period_ns(cell: Cell, report: dict[str, Any]) -> int | None:
    """Of a frame: as asked for, else as the source says; None where neither does or no frame is due."""
    said = (report.get("sources") or [{}])[0].get("fps")
    if not cell.paced or (cell.fps is None and not said):
        return None
    rate = frame_rate(cell.fps) if cell.fps is not None else Fraction(said).limit_denominator(1001)
    return int(1_000_000_000 / rate)


def _write(
    request: ProfileRequest, results: Results, fresh: Path, machine: dict[str, Any], created: str
) -> Made:
    cells = [_cell_json(cell, runs) for cell, runs in results if runs]
    verdicts, options = list(check(request.budgets, cells)), request.to_json()
    profile = {
        "schema": SCHEMA,
        "kind": KIND,
        "created_utc": created,
        "command": list(request.command),
        "options": options,
        "environment": machine,
        "words": {
            "measured": measured_words(options, cells),
            "not_measured": unmeasured_words(cells, machine),
        },
        "cells": cells,
        "budgets": [verdict.to_json() for verdict in verdicts],
    }
    write_profile(fresh / "profile.json", profile)
    write_page(fresh / "profile.html", profile_page(profile))
    write_trace(fresh / "trace.json", _events(results))
    codes = [int(run.facts["exit_code"]) for _, runs in results for run in runs]
    return Made(profile, fresh, verdicts, next((known_code(code) for code in codes if code), 0))


def known_code(code: int) -> int:
    """An exit code of ours; 1 for any other, such as that of a run that a signal ended."""
    return code if code in set(ExitCode) else int(ExitCode.FAILED)


def _cell_json(cell: Cell | ExternalCell, runs: Sequence[RunResult]) -> dict[str, Any]:
    if isinstance(cell, ExternalCell):
        return cell_json(cell.name, cell.settings(), runs, MEASURER)
    return cell_json(cell.name, _settings(cell, runs), runs)


def _settings(cell: Cell, runs: Sequence[RunResult]) -> dict[str, Any]:
    """What the cell was asked for, completed by what its runs said of themselves."""
    report: dict[str, Any] = next((run.report for run in runs if run.report), {})
    source = (report.get("sources") or [{}])[0]
    height, width = source.get("size_hw") or (None, None)
    return {
        "source": cell.source,
        "segmenter": report.get("segmenter", cell.segmenter),
        "runtime": report.get("runtime", cell.runtime),
        "size": cell.size or (None if width is None else [width, height]),
        "fps": source.get("fps") if cell.fps is None else cell.fps,
        "pace": cell.pace,
        "launcher": cell.launcher,
        "decoded_beforehand": not cell.is_live,
    }


def _events(results: Results) -> Iterator[Event]:
    """Of the first run of each cell."""
    for number, (cell, runs) in enumerate(results):
        for run in runs[:1]:
            measured = run.measured
            worst = [row for rows in measured.worst.values() for row in rows]
            zero_ns = measured.digest.begin_ns if run.started_ns is None else run.started_ns
            rows: Iterable[Any] = [*measured.kept, *worst]
            yield from run_events(number + 1, cell.name, rows, run.samples, zero_ns)


class FrameFile:
    """``frames.csv``: the logs of all runs behind one another, before each line its cell, its repeat, and whether it
    counts: 0 in the warm-up, which is in no figure, else 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise SinkError(
                f"frames: {path}; cannot be written ({error.strerror}). Try: --out DIR"
            ) from error
        self._file.write(",".join((*_RUN_COLUMNS, *COLUMNS)) + "\n")

    def __enter__(self) -> "FrameFile":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def add(self, cell: str, repeat: int, log: Path, measured: Measured) -> None:
        """Append a run's log; one that is not there adds nothing. What was lost counts where the picture before it
        does, as in the figures."""
        if not log.exists():
            return
        prefix = f'"{cell.replace(chr(34), chr(34) * 2)}",{repeat},'
        place, counts = COLUMNS.index("present_ns"), int(measured.window.warm_up_s == 0)
        with log.open(encoding="utf-8", newline="") as lines:
            next(lines, None)
            for line in whole_lines(lines):
                present_ns = "".join(
                    line.split(",", place + 1)[place : place + 1]
                )  # no text before it holds a comma
                if present_ns.isdigit():
                    counts = int(int(present_ns) >= measured.digest.begin_ns)
                self._file.write(f"{prefix}{counts},{line}")

    def close(self) -> None:
        """Finish it, and write the same as Parquet where pyarrow is there; may be called twice."""
        if self._file.closed:
            return
        self._file.close()
        if find_spec("pyarrow") is not None:
            write_parquet(self.path)


def write_parquet(path: Path) -> None:
    """The same table as Parquet beside the CSV file, in pieces."""
    import pyarrow.csv
    import pyarrow.parquet

    from ..sinks.trace_row import TEXT_COLUMNS

    words = ("cell", *TEXT_COLUMNS)
    types = {name: pyarrow.int64() for name in (*_RUN_COLUMNS, *COLUMNS)} | {
        name: pyarrow.string() for name in words
    }
    convert = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    beside = path.with_suffix(".parquet")
    with (
        pyarrow.csv.open_csv(path, convert_options=convert) as reader,
        pyarrow.parquet.ParquetWriter(beside, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
