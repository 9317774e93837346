"""The fault matrix as a table on the terminal, as JSON, and as Markdown between the markers of a page.

Separate from the measuring. A page has ``<!-- faults -->`` … ``<!-- /faults -->`` for the grid, the worst of each stage
and fault, or ``<!-- faults in full -->`` … ``<!-- /faults in full -->`` for a line each; what lies between is replaced.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from endostream.configs.errors import ConfigError, SinkError

from ..report_table import DASH, table_of, widen
from .fault_cells import FAULTS, NOT_APPLICABLE, PROCESS
from .fault_figures import Figures

SCHEMA = 1
GRID, IN_FULL = "faults", "faults in full"
_FAULT_WORDS = {
    "kill": "SIGKILL",
    "stop": "SIGSTOP",
    "exception": "exception",
    "memory": "memory limit",
    "slow": "10 × slower",
    "garbage": "garbage",
    "disk-full": "disk full",
}


@dataclass(slots=True)
class Matrix:
    """All cells that were run, and on what."""

    source: str
    segmenter: str
    command: str
    environment: dict[str, Any]
    cells: list[Figures] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether every promise was kept."""
        return not any(figures.broken for figures in self.cells)


def matrix_json(matrix: Matrix) -> str:
    """The matrix for machines; a freeze in periods goes with each, cells that make no sense have their reason."""
    fields = {"schema": SCHEMA, "met": matrix.met} | asdict(matrix)
    fields["cells"] = [asdict(cell) | {"freeze_periods": cell.freeze_periods} for cell in matrix.cells]
    fields["not_applicable"] = [
        {"stage": stage, "fault": fault, "why": why} for (stage, fault), why in NOT_APPLICABLE.items()
    ]
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def print_matrix(matrix: Matrix, console: Console) -> None:
    """A line for each cell."""
    widen(console)
    columns = ("stage", "fault", "freeze, ms", "periods", "before, ms", "lost", "annotation again, s")
    table = table_of("Faults", (*columns, "restarts", "ledger", "promise"), text_columns=2)
    for cell in matrix.cells:
        promise = f"[red]{'; '.join(cell.broken)}[/]" if cell.broken else "[green]kept[/]"
        table.add_row(*_cells(cell), promise)
    console.print(table)


def _cells(cell: Figures) -> list[str]:
    """The cells of one line, without the promise."""
    fault = _FAULT_WORDS[cell.fault] + (f": {cell.variant}" if cell.variant else "")
    return [
        cell.stage,
        fault,
        _number(cell.freeze_ms, ".1f"),
        _number(cell.freeze_periods, ".1f"),
        _number(cell.freeze_before_ms, ".1f"),
        f"{cell.lost_frames}",
        _again(cell),
        ", ".join(f"{name} {count}" for name, count in cell.restarts.items()) or "0",
        "closed" if cell.ledger_closed else "open",
    ]


def _again(cell: Figures) -> str:
    """Time to annotation, and of it the fault's own where that has a time."""
    if cell.ended_s is not None:
        return f"run ended after {cell.ended_s:.2f}"
    if cell.again_s is None:
        return "never"
    return f"{cell.again_s:.2f}" + (f" (fault {cell.lasted_s:.1f})" if cell.lasted_s >= 0.1 else "")


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def markdown_in_full(matrix: Matrix) -> str:
    """A line for each cell."""
    columns = ("stage", "fault", "what", "freeze, ms (periods)", "before it", "lost", "annotation again, s")
    lines = [f"| {' | '.join((*columns, 'restarts', 'ledger'))} |", "|---" * 9 + "|"]
    for cell in matrix.cells:
        stage, fault, freeze, periods, before, *rest = _cells(cell)
        broken = f" **{'; '.join(cell.broken)}**" if cell.broken else ""
        lines.append(
            f"| {stage} | {fault} | {cell.what} | {freeze} ({periods}) | {before} | {' | '.join(rest)}{broken} |"
        )
    lines += [
        f"| {stage} | {_FAULT_WORDS[fault]} | n/a: {why} | | | | | | |"
        for (stage, fault), why in NOT_APPLICABLE.items()
    ]
    return "\n".join([*lines, "", _caption(matrix)])


def markdown_grid(matrix: Matrix) -> str:
    """Faults down, stages across; each cell the worst of its variants."""
    lines = [f"| | {' | '.join(PROCESS)} |", "|---" * (len(PROCESS) + 1) + "|"]
    for fault in FAULTS:
        row = [_grid_cell(matrix, stage, fault) for stage in PROCESS]
        lines.append(f"| {_FAULT_WORDS[fault]} | {' | '.join(row)} |")
    legend = (
        "Each: longest time between two pictures; frames captured and never shown; time from the fault's begin to the "
        "first fresh mask of a frame captured after it was over (a fault that lasts does so for 1 to 2 s)."
    )
    return "\n".join([*lines, "", legend, _caption(matrix)])


def _grid_cell(matrix: Matrix, stage: str, fault: str) -> str:
    if reason := NOT_APPLICABLE.get((stage, fault)):
        return f"n/a: {reason}"
    cells = [cell for cell in matrix.cells if (cell.stage, cell.fault) == (stage, fault)]
    if not cells:
        return DASH
    freeze_ms = max((cell.freeze_ms or 0.0 for cell in cells), default=0.0)
    lost = max(cell.lost_frames for cell in cells)
    again = [cell.again_s for cell in cells]
    latest = max((value for value in again if value is not None), default=0.0)
    back = "never back" if None in again else f"{latest:.1f} s"
    mark = "**" if any(cell.broken for cell in cells) else ""
    return f"{mark}{freeze_ms:.0f} ms, {lost} lost, {back}{mark}"


def _caption(matrix: Matrix) -> str:
    """What it was measured on, and by which command."""
    machine, commit = matrix.environment, str(matrix.environment.get("commit"))
    period_ms = matrix.cells[0].period_ms if matrix.cells else 0.0
    return (
        f"{matrix.source}, frame period {period_ms:.1f} ms, {matrix.segmenter}; {machine.get('cpu')}, "
        f"{machine.get('cores')} cores, load {machine.get('load_1min')} before, commit {commit[:7]}; "
        f"made by `{matrix.command}`."
    )


def update_page(path: Path, matrix: Matrix) -> None:
    """Put the table between the markers of ``path``, or make the page if there is none.

    Raises:
        ConfigError: the page has no markers.
        SinkError: it cannot be written.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else _block(IN_FULL, "") + "\n"
        for name, make in ((GRID, markdown_grid), (IN_FULL, markdown_in_full)):
            text = replace_between(text, name, make(matrix))
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"markdown: {path}; cannot be written ({error.strerror})") from error


def check_page(path: Path) -> None:
    """Raise ConfigError if ``path`` is there and has no place for the table: before minutes are spent on it."""
    text = path.read_text(encoding="utf-8") if path.is_file() else _block(GRID, "")
    if not any(_pattern(name).search(text) for name in (GRID, IN_FULL)):
        raise ConfigError(
            f"markdown: {path}; expected the markers <!-- {GRID} --> and <!-- /{GRID} --> in it"
        )


def replace_between(text: str, name: str, content: str) -> str:
    """``text`` with what lies between the markers of ``name`` replaced; unchanged if it has none."""
    return _pattern(name).sub(lambda _: _block(name, content), text)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)


def _block(name: str, content: str) -> str:
    return f"<!-- {name} -->\n{content}\n<!-- /{name} -->"


def chosen_words(cells: Iterable[Figures]) -> Sequence[str]:
    """One line for each broken promise."""
    return [
        f"{cell.stage} {cell.fault}{':' * bool(cell.variant)}{cell.variant}: {'; '.join(cell.broken)}"
        for cell in cells
        if cell.broken
    ]
