"""Which runs of this user are alive, found by their run directories, and the one a user means.

Separate from ``rundir.py``, which a run uses for itself: this only looks, starts nothing and sweeps nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing

from ..rundir import base_directory
from .metrics_socket import SOCKET_NAME, read_record

PATIENCE_S = 5.0
"""For an answer of a run on a machine under load; one that is over refuses at once."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that answered: its directory and the record it gave (``metrics.py``)."""

    directory: Path
    record: dict[str, Any]

    @property
    def run_id(self) -> str:
        """What names it in its log and report."""
        return str(self.record["run"]["id"])


def live_runs() -> list[LiveRun]:
    """All runs that answer, the one that began last first."""
    found = []
    for directory in base_directory().glob("run-*"):
        try:
            found.append(LiveRun(directory, read_record(directory, PATIENCE_S)))
        except SourceLost:
            continue  # over, or its directory is left from a crash
    return sorted(found, key=lambda run: float(run.record["run"]["uptime_s"]))


def find_run(wanted: str) -> LiveRun:
    """The run a user means by the beginning of its id, its process number, or its run directory.

    Raises:
        SourceMissing: no such run is alive.
        SourceLost: the directory named holds one that does not answer.
        ConfigError: it could be several.
    """
    path = Path(wanted)
    if (path / SOCKET_NAME).exists():
        return LiveRun(path, read_record(path, PATIENCE_S))
    runs = live_runs()
    fitting = [run for run in runs if _is_meant(run, wanted)]
    if not fitting:
        alive = ", ".join(run.run_id for run in runs) or "none"
        raise SourceMissing(
            f"run: {wanted!r}; expected one that is alive ({alive}). Try: endostream top --list"
        )
    if len(fitting) > 1:
        names = ", ".join(run.run_id for run in fitting)
        raise ConfigError(
            f"run: {wanted!r}; expected one of {names}. Try: endostream top {fitting[0].run_id}"
        )
    return fitting[0]


def _is_meant(run: LiveRun, wanted: str) -> bool:
    names = (run.directory.name, str(run.record["run"]["pid"]))
    return bool(wanted) and (wanted in names or run.run_id.startswith(wanted))


def no_run() -> SourceMissing:
    """The error where nothing runs."""
    place = base_directory()
    return SourceMissing(
        f"run: none is alive in {place}; expected one. Try: endostream replay FILE in another terminal"
    )
