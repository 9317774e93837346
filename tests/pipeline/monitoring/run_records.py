"""Records of runs for the tests of ``endostream top``: the real ``snapshot`` of a supervisor that has not begun.

A ``FakeRun`` also answers at the socket of a run directory. It holds no test.
"""

import copy
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endostream.configs.schema import Config
from endostream.pipeline.board import Board
from endostream.pipeline.host import RunSpec
from endostream.pipeline.launcher import ThreadLauncher
from endostream.pipeline.monitoring.metrics import snapshot
from endostream.pipeline.monitoring.metrics_socket import RecordServer
from endostream.pipeline.supervisor import Supervisor


def supervisor_of(*sources: str, sinks: tuple[str, ...] = ()) -> Supervisor:
    config = Config()
    spec = RunSpec("", "live", config.model_dump(), sources or ("phantom:",), sinks=sinks)
    return Supervisor(spec, config, ThreadLauncher("inproc://none/"), lambda *_: None)


def set_cells(board: Board, cells: dict[str, int]) -> None:
    for name, value in cells.items():
        board.cell(name).value = value


def record_at(supervisor: Supervisor, at_s: float, **stages: dict[str, Any]) -> dict[str, Any]:
    """Its record, as if made ``at_s`` seconds into the run; ``stages`` override what is said of a stage."""
    record = copy.deepcopy(snapshot(supervisor))
    record["at_ns"] = int(at_s * 1e9)
    for name, facts in stages.items():
        record["stages"][name] |= facts
    return record


class FakeRun:
    """A run directory ``base/name`` that answers with ``record``, and says when it was asked."""

    def __init__(self, base: Path, name: str, record: dict[str, Any]) -> None:
        self.directory = base / name
        self.directory.mkdir(parents=True)
        self.record = record
        self.asked = threading.Event()
        self._server = RecordServer(self.directory, self._answer)

    def _answer(self) -> dict[str, Any]:
        self.asked.set()
        return self.record

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
