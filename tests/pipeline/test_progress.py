"""The progress line: rates and time left from known tallies, a bar on a terminal only, never in the way."""

import io
import logging
import threading

import pytest
from rich.console import Console

from endostream.pipeline import progress as module
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.frame import MaskState
from endostream.pipeline.progress import Progress, ProgressMeter, Tally

SECOND_NS = 1_000_000_000


class WatchedTerminal(io.StringIO):
    """A terminal that tells when a word was written to it."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word
        self.seen = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._word in text:
            self.seen.set()
        return super().write(text)


class StalledTerminal(io.StringIO):
    """A terminal that was stopped with Ctrl-S: a write returns only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_go = threading.Event(), threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait(10)
        return len(text)


def meter_after(seconds: int, total: int | None, duration_s: float | None, fps: int = 25) -> ProgressMeter:
    meter = ProgressMeter(total, duration_s, 0)
    for second in range(1, seconds + 1):
        meter.add(second * SECOND_NS, Tally(second * fps, second * fps, 0, MaskState.FRESH))
    return meter


def test_the_line_names_frames_rate_drops_state_and_time_left() -> None:
    meter = ProgressMeter(100, None, 0)
    meter.add(2 * SECOND_NS, Tally(50, 48, 2, MaskState.HELD))
    assert meter.line() == "50/100 frames, 24.0 fps, 2 dropped, AI held, ETA 0:00:02"


def test_the_rate_is_that_of_the_last_two_seconds() -> None:
    meter = meter_after(10, None, None)
    meter.add(11 * SECOND_NS, Tally(250, 250))
    meter.add(12 * SECOND_NS, Tally(250, 250))
    assert meter.fps == 0.0


def test_without_a_number_of_frames_the_duration_tells_the_time_left() -> None:
    meter = meter_after(3, None, 12.0)
    assert (meter.done, meter.left_s) == (0.25, 9.0)


def test_without_either_nothing_is_made_up() -> None:
    meter = meter_after(3, None, None)
    assert (meter.done, meter.left_s) == (None, None)
    assert meter.line() == "75 frames, 25.0 fps, 0 dropped, AI fresh, ETA –"


def test_a_source_that_has_more_frames_than_it_said_stays_at_all_done() -> None:
    meter = meter_after(3, 50, None)
    assert (meter.done, meter.left_s) == (1.0, 0.0)


def test_a_run_that_stands_still_has_no_time_left_to_tell() -> None:
    meter = ProgressMeter(100, None, 0)
    meter.add(SECOND_NS, Tally())
    assert meter.left_s is None


def test_a_terminal_gets_a_bar_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAW_EVERY_S", 0.001)
    stream = WatchedTerminal("7/10 frames")
    console = Console(file=stream, width=120, color_system=None)
    with Progress(10, None, console, VirtualClock()) as progress:
        progress.update(7, 7, 0, MaskState.FRESH)
        assert stream.seen.wait(10)
    last_clear = stream.getvalue().rfind("\x1b[2K")
    assert last_clear > stream.getvalue().rfind("7/10 frames")


def test_no_terminal_gets_no_bar_but_log_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.001)
    logged = threading.Event()

    def watch(record: logging.LogRecord) -> bool:
        if "7/10 frames" in record.getMessage():
            logged.set()
        return True

    caplog.set_level(logging.INFO, logger=module.__name__)
    monkeypatch.setattr(module.logger, "filters", [watch])
    stream = io.StringIO()
    # What rich takes for a terminal where FORCE_COLOR is set.
    with Progress(10, None, Console(file=stream, force_terminal=True), VirtualClock()) as progress:
        progress.update(7, 6, 1, MaskState.FAILED)
        assert logged.wait(10)
    assert stream.getvalue() == ""
    assert "1 dropped, AI failed" in caplog.messages[-1]


def test_a_stopped_terminal_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.01)
    stream = StalledTerminal()
    with Progress(10, None, Console(file=stream), VirtualClock()) as progress:
        assert stream.reached.wait(10)
        for count in range(1000):
            progress.update(count, count, 0, MaskState.FRESH)
    assert not stream.let_go.is_set()
    stream.let_go.set()
