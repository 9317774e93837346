"""``endostream top``: watches a run that is going on, from another terminal.

It asks the run for its record once a second and draws it; what it shows of "the last seconds" it works out itself from
records it took before. It changes nothing in the run. Without a terminal it shows one picture and ends.
"""

import contextlib
import json
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from endostream.configs.errors import ConfigError, SourceLost

from ..report_table import widen
from ..rundir import is_alive
from .metrics_socket import read_record
from .run_rates import Record, rates_between
from .runs import PATIENCE_S, LiveRun, find_run, live_runs, no_run
from .top_view import list_view, run_view

RECENT_S = 10.0
_QUIT_KEYS = ("q", "Q", "\x1b", "\x03")


def top_command(wanted: str | None, interval_s: float, *, once: bool, as_json: bool, only_list: bool) -> int:
    """Do what the command line asks for; returns the exit code."""
    if not 0.1 <= interval_s <= 3600:
        raise ConfigError(f"--interval: {interval_s:g}; expected seconds from 0.1 to 3600")
    if only_list:
        return _list(live_runs(), as_json)
    run = find_run(wanted) if wanted is not None else _only_run(as_json)
    if run is None:
        return 0
    if once or as_json or not sys.stdout.isatty():
        return _show_once(run, interval_s, as_json)
    return _watch(run, interval_s)


def _only_run(as_json: bool) -> LiveRun | None:
    """The run there is; None after listing several."""
    runs = live_runs()
    if not runs:
        raise no_run()
    if len(runs) == 1:
        return runs[0]
    if as_json:
        names = ", ".join(run.run_id for run in runs)
        raise ConfigError(
            f"run: several are alive ({names}); expected one. Try: endostream top {runs[0].run_id}"
        )
    _list(runs, as_json)
    print(f"\nTry: endostream top {runs[0].run_id}")
    return None


def _list(runs: list[LiveRun], as_json: bool) -> int:
    if as_json:
        keys = ("run", "frames", "masks", "sources")
        told = [{"directory": str(run.directory)} | {key: run.record[key] for key in keys} for run in runs]
        print(json.dumps({"schema": 1, "runs": told}, indent=2, allow_nan=False))
        return 0
    if not runs:
        raise no_run()
    console = Console()
    widen(console)
    console.print(list_view(run.record for run in runs))
    return 0


def _show_once(run: LiveRun, interval_s: float, as_json: bool) -> int:
    """One picture, of ``interval_s`` seconds."""
    time.sleep(interval_s)
    try:
        record = read_record(run.directory, PATIENCE_S)
    except SourceLost as error:
        if is_alive(run.directory):
            raise
        raise SourceLost(
            f"run: {run.run_id}; has ended within the {interval_s:g} s that were to be measured; expected one that "
            "goes on. Try: a shorter --interval, or its --report"
        ) from error
    rates = rates_between(record, run.record)
    if as_json:
        print(json.dumps({**record, "recent": rates}, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    console = Console()
    widen(console)
    console.print(run_view(record, rates))
    return 0


class RunWatch:
    """The records of a run over the last seconds.

    Args:
        directory: of the run.
        first: its first record.

    Attributes:
        ended: how the run ended, "" while it goes on.
        silent: that it does not answer, "" while it does; a machine under load may be late.
    """

    def __init__(self, directory: Path, first: Record) -> None:
        self._directory = directory
        self._records: deque[Record] = deque([first])
        self.ended = self.silent = ""

    def look(self) -> None:
        """Ask for another record."""
        try:
            self._records.append(read_record(self._directory))
        except SourceLost:
            self.silent = "gives no answer"
            if not is_alive(self._directory):
                self.ended = "was killed" if self._directory.exists() else "has ended"
            return
        self.silent = ""
        oldest_ns = self._records[-1]["at_ns"] - int(RECENT_S * 1e9)
        while len(self._records) > 2 and self._records[1]["at_ns"] <= oldest_ns:
            self._records.popleft()
        self.ended = "has ended" if self._records[-1]["run"]["status"] == "ended" else ""

    def view(self, height: int | None = None) -> Any:
        """What there is to see now, in ``height`` lines."""
        newest = self._records[-1]
        return run_view(newest, rates_between(newest, self._records[0]), self.ended or self.silent, height)


def _watch(run: LiveRun, interval_s: float) -> int:
    """Draw until the run ends or the user has seen enough; leaves the last picture on the terminal."""
    watch, console = RunWatch(run.directory, run.record), Console()
    picture = Live(watch.view(console.height), console=console, screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), _keys() as keys, picture:
        picture.refresh()
        while not watch.ended and not keys.quit_within(interval_s):
            watch.look()
            picture.update(watch.view(console.height), refresh=True)
    console.print(watch.view())
    return 0


class _Keys:
    """Keys pressed on the terminal."""

    def quit_within(self, seconds: float) -> bool:
        """Wait so long; True as soon as a key says that the user has seen enough."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not sys.stdin.isatty():
                time.sleep(left_s)
            elif select.select([sys.stdin], [], [], left_s)[0] and sys.stdin.read(1) in _QUIT_KEYS:
                return True
        return False


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """The terminal gives keys at once and does not show them, until the end."""
    if not sys.stdin.isatty():
        yield _Keys()
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _Keys()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
