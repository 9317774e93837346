"""One run of the pipeline with one fault in it: waits until all is well, does it, and ends when all is well again.

Separate from what is made of it (``fault_figures.py``). The run is an ordinary one, with its own processes; faults
are done from the supervisor's tick, by signals and limits of the system or by telling a stage to go wrong.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

from endostream.configs.schema import Config

from .. import app
from ..board import Board
from ..report import Report
from ..request import RunRequest
from ..sink import parse_sink
from ..sinks.diary_sink import DiaryLine, read_diary
from ..supervision import STAGES, StageState
from ..supervisor import Supervisor
from .fault_cells import Cell
from .fault_figures import Figures, Moments, figures_of

SETTLED_FRAMES = 45
"""Frames with a fresh mask before the fault, and after it was over before the run ends."""
_PATIENCE_NS = 60_000_000_000
_HEADROOM_BYTES = 256 << 20
"""Left to a process whose address space is limited: so much leaks away within a second."""


class Injector:
    """Called by the supervisor some fifty times a second; does the fault and notes when."""

    def __init__(self, cell: Cell, outputs: Path) -> None:
        self.cell = cell
        self.moments = Moments()
        self._outputs = outputs
        self._started_ns = time.monotonic_ns()
        self._incarnation = 0
        self._fresh_then = 0

    def __call__(self, supervisor: Supervisor) -> None:
        """Look, and do what is due."""
        board, now_ns = supervisor.board, time.monotonic_ns()
        moments = self.moments
        if not moments.begun_ns:
            if self._settled(board):
                self._begin(supervisor)
            elif now_ns - self._started_ns > _PATIENCE_NS:
                supervisor.finish()
        elif not moments.over_ns:
            self._see_whether_over(board, now_ns)
        elif self.well_again(board) or now_ns - moments.over_ns > _PATIENCE_NS:
            supervisor.finish()

    def _settled(self, board: Board) -> bool:
        recording = self.cell.stage != "recorder" or board.value("sink0.written") > SETTLED_FRAMES
        return recording and _all_run(board) and board.value("overlay.state.fresh") >= SETTLED_FRAMES

    def _begin(self, supervisor: Supervisor) -> None:
        self._incarnation = supervisor.board.value(f"{self.cell.process}.incarnation")
        self.moments = Moments(time.monotonic_ns())
        do_fault(self.cell, supervisor, self._outputs)

    def _see_whether_over(self, board: Board, now_ns: int) -> None:
        """Over is a fault when the stage it was done to is gone, or when its time is over."""
        cell, begun_ns = self.cell, self.moments.begun_ns
        name = cell.process
        state, incarnation = board.value(f"{name}.state"), board.value(f"{name}.incarnation")
        gone = state != StageState.RUNNING or incarnation != self._incarnation
        lasts = not cell.signal_number and now_ns - begun_ns < cell.lasts_s * 1e9
        if gone or not (cell.signal_number or lasts) or now_ns - begun_ns > _PATIENCE_NS:
            over_ns = now_ns if gone else begun_ns + int(cell.lasts_s * 1e9)
            self.moments = Moments(begun_ns, over_ns)
            self._fresh_then = board.value("overlay.state.fresh")

    def well_again(self, board: Board) -> bool:
        """Whether every stage runs and fresh masks are shown again."""
        return _all_run(board) and board.value("overlay.state.fresh") >= self._fresh_then + SETTLED_FRAMES


def _all_run(board: Board) -> bool:
    used = [stage for stage in STAGES if board.value(f"{stage}.state") != StageState.ABSENT]
    return all(board.value(f"{stage}.state") == StageState.RUNNING for stage in used)


def do_fault(cell: Cell, supervisor: Supervisor, outputs: Path) -> None:
    """Do what the cell says to its process, now."""
    pid = supervisor.board.value(f"{cell.process}.pid")
    if cell.address_space:
        size = _address_space_bytes(pid) + _HEADROOM_BYTES
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    if cell.file_size:
        size = max((path.stat().st_size for path in outputs.glob("recording*")), default=0)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
    if cell.order:
        supervisor.tell_stage(
            cell.process, {"t": "chaos", "kind": cell.order, "for_s": cell.lasts_s or _PATIENCE_NS / 1e9}
        )
    if cell.signal_number:
        os.kill(pid, cell.signal_number)


def _address_space_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def play_cell(cell: Cell, source: str, config: Config) -> Figures:
    """Run the pipeline once with this fault; its figures."""
    with tempfile.TemporaryDirectory(prefix="endostream-faults-") as folder:
        moments, trace, report = _run(cell, source, config, Path(folder))
    return figures_of(cell, moments, trace, report)


def _run(cell: Cell, source: str, config: Config, folder: Path) -> tuple[Moments, list[DiaryLine], Report]:
    trace = folder / "trace"
    sinks = [parse_sink(f"diary:{trace}")]
    if cell.stage == "recorder":
        sinks.append(parse_sink(f"video:{folder / 'recording.mp4'}"))
    request = RunRequest([source], sinks, None, config, quiet=True)
    injector = Injector(cell, folder)
    totals, outcome = app.play(request, injector, chaos=True)
    report = app.concluded(totals, outcome, request)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return injector.moments, read_diary(trace), report
