"""Progress of a run on stderr: a bar on a terminal, else a log line now and then.

Separate from the supervisor because a terminal may stand still (Ctrl-S, a slow remote shell) and must not
take the run with it: ``update`` only stores the numbers, a thread of its own draws them. It measures nothing
for the report.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from .clock import Clock, MonotonicClock
from .frame import MaskState

logger = logging.getLogger(__name__)

DRAW_EVERY_S = 0.25
LOG_EVERY_S = 10.0
WINDOW_S = 2.0
CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a run stands: frames so far, and what is behind the marks just now."""

    captured: int = 0
    presented: int = 0
    dropped: int = 0
    state: MaskState = MaskState.ABSENT


class ProgressMeter:
    """Turns tallies at moments into rate, share done and time left; no thread and no output.

    Args:
        total_frames: frames the sources say they have, None if unknown.
        duration_s: seconds the run is to last, used where the number of frames is unknown.
        start_ns: monotonic start of the run.
    """

    def __init__(self, total_frames: int | None, duration_s: float | None, start_ns: int) -> None:
        self._total = total_frames or None
        self._duration_s = duration_s or None
        self._start_ns = start_ns
        self._recent: deque[tuple[int, Tally]] = deque([(start_ns, Tally())])

    def add(self, now_ns: int, tally: Tally) -> None:
        """Take note of ``tally`` at ``now_ns``; what is older than the window is forgotten."""
        self._recent.append((now_ns, tally))
        while len(self._recent) > 2 and now_ns - self._recent[1][0] >= WINDOW_S * 1e9:
            self._recent.popleft()

    @property
    def done(self) -> float | None:
        """Share of the run that is done, 0 to 1; None if its length is unknown."""
        now_ns, tally = self._recent[-1]
        if self._total:
            return min(tally.captured / self._total, 1.0)
        if self._duration_s:
            return min((now_ns - self._start_ns) / 1e9 / self._duration_s, 1.0)
        return None

    @property
    def fps(self) -> float:
        """Presented frames a second over the last two seconds."""
        return (self._recent[-1][1].presented - self._recent[0][1].presented) / self._window_s()

    @property
    def left_s(self) -> float | None:
        """Seconds left, None if they cannot be told (length unknown, or nothing moves)."""
        now_ns, tally = self._recent[-1]
        if self._total:
            rate = (tally.captured - self._recent[0][1].captured) / self._window_s()
            return max(self._total - tally.captured, 0) / rate if rate > 0 else None
        if self._duration_s:
            return max(self._duration_s - (now_ns - self._start_ns) / 1e9, 0.0)
        return None

    def line(self) -> str:
        """All of it in words, e.g. ``176/181 frames, 25.0 fps, 5 dropped, AI fresh, ETA 0:00:03``."""
        tally = self._recent[-1][1]
        total = f"/{self._total:,}" if self._total else ""
        left_s = self.left_s
        eta = "–" if left_s is None else str(timedelta(seconds=round(left_s)))
        return (
            f"{tally.captured:,}{total} frames, {self.fps:.1f} fps, {tally.dropped:,} dropped, "
            f"AI {tally.state.label}, ETA {eta}"
        )

    def _window_s(self) -> float:
        """Length of the window that is filled, never 0."""
        return max(self._recent[-1][0] - self._recent[0][0], 1) / 1e9


class Progress:
    """Shows where a run stands, as a context manager around it.

    Args:
        total_frames: frames the sources say they have, None if unknown.
        duration_s: seconds the run is to last, None if unknown.
        console: where to draw, stderr by default; a bar only if it is a terminal.
        clock: of the rates.
    """

    def __init__(
        self,
        total_frames: int | None,
        duration_s: float | None,
        console: Console | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock or MonotonicClock()
        self._meter = ProgressMeter(total_frames, duration_s, self._clock.now_ns())
        self._tally = Tally()
        self._closing = threading.Event()
        # Rich alone would draw into a file where FORCE_COLOR is set, as in many CI systems.
        on_terminal = self._console.is_terminal and self._console.file.isatty()
        draw = self._draw_bar if on_terminal else self._write_log
        self._thread = threading.Thread(target=draw, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def update(self, captured: int, presented: int, dropped: int, state: MaskState) -> None:
        """Say where the run stands, as often as you like: this stores four values and returns."""
        self._tally = Tally(captured, presented, dropped, state)

    def _measure(self) -> ProgressMeter:
        """The meter, up to date."""
        self._meter.add(self._clock.now_ns(), self._tally)
        return self._meter

    def _draw_bar(self) -> None:
        """The thread on a terminal: redraw four times a second until closing, then leave no trace."""
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
        try:
            with Bar(*columns, console=self._console, auto_refresh=False, transient=True) as bar:
                task = bar.add_task("", total=None)
                while not self._closing.wait(DRAW_EVERY_S):
                    meter = self._measure()
                    total = None if meter.done is None else 1.0
                    bar.update(task, description=meter.line(), completed=meter.done or 0, total=total)
                    bar.refresh()
        except (OSError, ValueError):
            logger.debug("progress: the terminal has gone away")

    def _write_log(self) -> None:
        """The thread elsewhere: one log line every ten seconds until closing."""
        while not self._closing.wait(LOG_EVERY_S):
            logger.info("%s", self._measure().line(), extra={"event": "progress"})
