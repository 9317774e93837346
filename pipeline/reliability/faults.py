"""The command ``faults``: chooses cells of the matrix, runs one after the other, and publishes what came out.

Separate from the command line, as ``app.py`` is, and from the runs. Exit code 5 if a promise was not kept.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from endostream.configs.errors import ConfigError, ExitCode, SinkError
from endostream.configs.load import LoadedConfig, Override, load_config
from endostream.configs.schema import Config

from ..environment import environment
from ..request import check_output_file, check_source
from . import fault_supervisor
from .fault_cells import FAULTS, PROCESS, Cell, all_cells
from .fault_figures import Figures
from .fault_run import play_cell
from .fault_table import Matrix, check_page, chosen_words, matrix_json, print_matrix, update_page

logger = logging.getLogger("endostream")
DEFAULT_SOURCE = "phantom:1280x720@30"
_FIXED = {"replay.mode": "live", "replay.speed": "realtime"}
_USUAL = {"replay.loop": "0", "phantom.duration_s": "86400"}
"""Played for as long as it takes."""
_ALIASES = {process: stage for stage, process in PROCESS.items()}


@dataclass(frozen=True, slots=True)
class FaultsRequest:
    """What was asked for.

    Attributes:
        source: address.
        stages, faults: rows and columns of the matrix, all if empty.
        config_file, settings: as everywhere.
        report: JSON file; ``pages``: Markdown files to put tables into.
        json: print JSON instead of a table.
        command: the command line, for the pages.
    """

    source: str = DEFAULT_SOURCE
    stages: Sequence[str] = ()
    faults: Sequence[str] = ()
    config_file: Path | None = None
    settings: Sequence[str | Override] = ()
    report: Path | None = None
    pages: Sequence[Path] = ()
    json: bool = False
    command: str = "endostream faults"
    soak_minutes: float = 0.0
    plot: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    def load(self, more: Sequence[str] = ()) -> LoadedConfig:
        """The configuration of a run, ``more`` above everything."""
        usual = [Override(key, text, "endostream faults") for key, text in _USUAL.items()]
        fixed = [Override(key, text, "endostream faults") for key, text in _FIXED.items()]
        named = [Override(key, text, "option") for key, text in self.options.items()]
        return load_config(self.config_file, [*usual, *named, *self.settings, *fixed, *more])


def chosen_cells(stages: Sequence[str], faults: Sequence[str]) -> list[Cell]:
    """Cells of these rows and columns; a fault may name its variant, as in ``garbage:all-ones``.

    Raises:
        ConfigError: no such stage or fault, or none of the cells makes sense.
    """
    wanted = [_ALIASES.get(stage, stage) for stage in stages]
    for stage in wanted:
        if stage not in (*PROCESS, fault_supervisor.STAGE):
            known = ", ".join((*PROCESS, fault_supervisor.STAGE))
            raise ConfigError(f"stage: {stage!r}; expected one of {known}")
    cells = [cell for cell in all_cells() if not wanted or cell.stage in wanted]
    names = {f"{cell.fault}:{cell.variant}" for cell in all_cells() if cell.variant}
    for fault in faults:
        if fault not in FAULTS and fault not in names:
            raise ConfigError(f"fault: {fault!r}; expected one of {', '.join((*FAULTS, *sorted(names)))}")
    chosen = [
        cell for cell in cells if not faults or {cell.fault, f"{cell.fault}:{cell.variant}"} & set(faults)
    ]
    if not chosen and not with_supervisor(stages, faults):
        raise ConfigError("faults: none of these makes sense for these stages. Try: endostream faults --help")
    return chosen


def with_supervisor(stages: Sequence[str], faults: Sequence[str]) -> bool:
    """Whether the supervisor is to be killed too."""
    return (not stages or fault_supervisor.STAGE in stages) and (not faults or "kill" in faults)


def faults_command(request: FaultsRequest) -> int:
    """Run the matrix or the soak, publish, return the exit code."""
    check_source(request.source)
    for page in request.pages:
        check_page(page)
    if request.report is not None:
        check_output_file("report", request.report)
    if request.soak_minutes:
        from .soak import soak_command

        return soak_command(request)
    return matrix_command(request)


def matrix_command(request: FaultsRequest) -> int:
    """Run the matrix."""
    cells = chosen_cells(request.stages, request.faults)
    configs = {cell.settings: request.load(cell.settings).config for cell in cells}
    plain = request.load().config
    matrix = Matrix(request.source, plain.infer.segmenter, request.command, environment())
    try:
        for cell in cells:
            _add(matrix, run_quietly(cell, request.source, configs[cell.settings]), cell.name, len(cells))
        if with_supervisor(request.stages, request.faults):
            _add(matrix, fault_supervisor.play_supervisor_cell(request.source, plain), "supervisor kill", 0)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    publish(matrix, request)
    for line in chosen_words(matrix.cells):
        logger.error("promise not kept: %s", line)
    return ExitCode.DONE if matrix.met else ExitCode.CHECK


def run_quietly(cell: Cell, source: str, config: Config) -> Figures:
    """One cell; what the run says of the fault we did ourselves is in its figures, not on stderr."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return play_cell(cell, source, config)
    finally:
        logger.setLevel(level)


def _add(matrix: Matrix, figures: Figures, name: str, count: int) -> None:
    """Take a cell into the matrix, and say so on stderr: the whole takes minutes."""
    matrix.cells.append(figures)
    freeze = "none shown" if figures.freeze_ms is None else f"freeze {figures.freeze_ms:.0f} ms"
    again = "never" if figures.again_s is None else f"{figures.again_s:.2f} s"
    said = f"{freeze}, {figures.lost_frames} lost, annotation {again}"
    if figures.ended_s is not None:
        said = f"ended after {figures.ended_s:.2f} s"
    broken = f" [{'; '.join(figures.broken)}]" if figures.broken else ""
    place = f"{len(matrix.cells)}/{count} " if count else ""
    print(f"{place}{name}: {said}{broken}", file=sys.stderr, flush=True)


def publish(matrix: Matrix, request: FaultsRequest) -> None:
    """Write the files, print the table."""
    text = matrix_json(matrix)
    if request.report is not None:
        try:
            request.report.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SinkError(f"report: {request.report}; cannot be written ({error.strerror})") from error
    for page in request.pages:
        update_page(page, matrix)
    if request.json:
        sys.stdout.write(text)
    else:
        print_matrix(matrix, Console())
