"""The window on a real X server without a screen (Xvfb): what is seen, what keys do, and a display that goes away.

Pictures are read back from the server and keys pressed there, so that a test sees what a user would.
"""

import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from endostream.configs.errors import SinkError
from endostream.pipeline.frame import Annotation, Box, ImageBgr, MaskState, Presented
from endostream.pipeline.sink import SinkContext, SinkSpec, check_sink, parse_sink
from endostream.pipeline.window.sdl_screen import _why_not, key_word
from endostream.pipeline.window.window_picture import MARKS_OFF, RECORDING
from endostream.pipeline.window.window_sink import WindowRequest, WindowSink

from ..sinks.sink_contract import SinkContract, picture, presented
from .x_display import XDisplay, wait_until

FINISHED, RAW = (10, 200, 60), (90, 40, 160)
HEIGHT, WIDTH = 240, 320


@pytest.fixture(scope="module")
def shared_display() -> Iterator[XDisplay]:
    with XDisplay() as screen:
        yield screen


@pytest.fixture
def display(shared_display: XDisplay, monkeypatch: pytest.MonkeyPatch) -> XDisplay:
    monkeypatch.setenv("DISPLAY", shared_display.name)
    return shared_display


@pytest.fixture
def sink(display: XDisplay) -> Iterator[WindowSink]:
    with open_window() as sink:
        yield sink


def open_window(**options: bool) -> WindowSink:
    sink = WindowSink(parse_sink("window"), SinkContext(None, dict(options)))
    sink.wait_until_open()
    return sink


def flat(colour: tuple[int, int, int], height: int = HEIGHT, width: int = WIDTH) -> ImageBgr:
    return np.full((height, width, 3), colour, np.uint8)


def frame(seq: int = 0, image: ImageBgr | None = None) -> Presented:
    """A finished picture whose captured one has another colour, with a HUD."""

    def copy_raw(out: ImageBgr) -> bool:
        out[:] = RAW
        return True

    finished = flat(FINISHED) if image is None else image
    return presented(seq, finished, hud=Box(0, 0, 40, 20), copy_raw=copy_raw)


def show(sink: WindowSink, shown: Presented | None = None) -> None:
    """Write until it was drawn: a machine under load may take longer than a frame may wait."""
    record = shown or frame()

    def drawn() -> bool:
        sink.write(record)
        return sink.shown

    wait_until(drawn, "a picture")


def requests(sink: WindowSink, count: int) -> list[WindowRequest]:
    found: list[WindowRequest] = []

    def enough() -> bool:
        sink.service()
        found.extend(sink.take_requests())
        return len(found) >= count

    wait_until(enough, f"{count} requests")
    return found


def press(sink: WindowSink, display: XDisplay, key: str) -> WindowRequest:
    display.press(key)
    (request,) = requests(sink, 1)
    show(sink)
    return request


def has(screen: ImageBgr, colour: tuple[int, int, int], least_px: int = 500) -> bool:
    return int((screen == colour).all(axis=2).sum()) >= least_px


@pytest.mark.usefixtures("display")
class TestWindowSink(SinkContract):
    address = "window"


def test_the_spec_is_a_presenting_one() -> None:
    assert parse_sink("window") == SinkSpec("window", "", "window")


def test_a_picture_appears_byte_for_byte_in_a_window_of_its_size(sink: WindowSink, display: XDisplay) -> None:
    image = picture(HEIGHT, WIDTH)
    show(sink, presented(0, image))
    screen = display.screen()
    rows, columns = np.nonzero(screen.any(axis=2))
    top, left = int(rows.min()), int(columns.min())
    np.testing.assert_array_equal(screen[top : top + HEIGHT, left : left + WIDTH], image)


def test_it_says_when_it_has_made_ready_for_pictures_of_a_size(sink: WindowSink, display: XDisplay) -> None:
    sink.expect((HEIGHT, WIDTH))  # the window is not there yet
    assert not sink.fits((HEIGHT, WIDTH))

    def fits() -> bool:
        sink.service()
        return sink.fits((HEIGHT, WIDTH))

    wait_until(fits, "the window to fit")
    assert not sink.fits((HEIGHT + 2, WIDTH))
    assert display.window()


def test_keys_become_requests(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    pressed = [press(sink, display, key) for key in ("q", "Q", "Escape", "s", "r", "h", "question")]
    assert pressed == [
        WindowRequest("quit", "q", "quit"),
        WindowRequest("quit", "q", "quit"),
        WindowRequest("quit", "escape", "quit"),
        WindowRequest("snapshot", "s", "snapshot"),
        WindowRequest("record", "r", "record"),
        WindowRequest("view", "h", "help on"),
        WindowRequest("view", "?", "help off"),
    ]


def test_marks_off_shows_the_captured_picture_under_the_hud_and_says_so(
    sink: WindowSink, display: XDisplay
) -> None:
    show(sink)
    assert has(display.screen(), FINISHED, 70_000) and not has(display.screen(), RAW, 1)
    assert press(sink, display, "o").words == "marks off"
    screen = display.screen()
    assert has(screen, RAW, 60_000) and has(screen, MARKS_OFF.paper)
    assert int((screen == FINISHED).all(axis=2).sum()) == 40 * 20  # the HUD
    assert press(sink, display, "o").words == "marks on"
    assert not has(display.screen(), RAW, 1) and not has(display.screen(), MARKS_OFF.paper, 1)


def test_side_by_side_shows_both(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    assert press(sink, display, "b").words == "side by side on"
    screen = display.screen()
    assert has(screen, RAW, 17_000) and has(screen, FINISHED, 17_000)
    assert (
        np.nonzero((screen == RAW).all(axis=2))[1].max()
        < np.nonzero((screen == FINISHED).all(axis=2))[1].min()
    )


def test_full_screen_fills_the_screen_and_goes_back(sink: WindowSink, display: XDisplay) -> None:
    """Xvfb has no window manager, as a kiosk has none."""
    show(sink)
    assert press(sink, display, "f").words == "full screen on"
    wait_until(lambda: (show(sink), has(display.screen(), FINISHED, 290_000))[1], "a full screen")
    assert press(sink, display, "f").words == "full screen off"
    wait_until(lambda: (show(sink), not has(display.screen(), FINISHED, 100_000))[1], "a small window")


@pytest.mark.usefixtures("display")
def test_it_can_begin_with_a_full_screen(display: XDisplay) -> None:
    with open_window(full_screen=True) as sink:
        wait_until(lambda: (show(sink), has(display.screen(), FINISHED, 290_000))[1], "a full screen")


def test_a_window_made_wider_has_black_bars(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    display.resize_window(600, 240)

    def settled() -> bool:
        show(sink)
        columns = np.flatnonzero((display.screen()[:240] == FINISHED).all(axis=2).any(axis=0))
        return (int(columns[0]), int(columns[-1])) == (140, 459)

    wait_until(settled, "a picture in the middle")
    assert not display.screen()[:240, :140].any() and not display.screen()[:240, 460:600].any()


def test_recording_is_shown_and_why_it_is_not(sink: WindowSink, display: XDisplay) -> None:
    sink.tell_recording(True, "")
    show(sink)
    assert RECORDING.dot is not None
    assert has(display.screen(), RECORDING.dot, 30)
    sink.tell_recording(False, "disk full")
    show(sink)
    assert not has(display.screen(), RECORDING.dot, 1)
    assert has(display.screen(), (40, 30, 190))


def test_a_picture_without_hud_because_drawing_failed_says_so(sink: WindowSink, display: XDisplay) -> None:
    failed = Annotation(MaskState.FAILED, cause="drawing failed")
    show(sink, presented(0, flat(RAW), annotation=failed))
    assert has(display.screen(), (40, 30, 190))
    show(sink)
    assert not has(display.screen(), (40, 30, 190), 1)


def test_help_lies_over_the_picture(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    press(sink, display, "h")
    assert has(display.screen(), (28, 24, 22), 10_000)


def test_the_close_button_asks_for_the_end(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    display.close_window()
    assert requests(sink, 1) == [WindowRequest("quit", "close button", "quit")]


def test_keys_are_heard_before_the_first_picture(sink: WindowSink, display: XDisplay) -> None:
    wait_until(display.window, "the window")
    display.press("q")
    assert requests(sink, 1) == [WindowRequest("quit", "q", "quit")]


def test_a_killed_window_comes_back_looking_the_same(sink: WindowSink, display: XDisplay) -> None:
    show(sink)
    press(sink, display, "o")
    assert sink._process is not None
    sink._process.kill()
    sink._process.wait(20)
    show(sink)
    assert has(display.screen(), RAW, 60_000)
    (lost, back) = sink.take_notes()
    assert lost[0] == "error" and "ended with code -9" in lost[1] and "the run goes on unseen" in lost[1]
    assert back[0] == "info" and back[1].startswith("window: is back after ")
    assert sink.lost_because == ""


def test_a_display_that_hangs_holds_up_nothing_and_the_window_comes_back_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with XDisplay() as screen:
        monkeypatch.setenv("DISPLAY", screen.name)
        with open_window() as sink:
            show(sink)
            missed = sink.missed
            screen.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: (sink.write(frame()), not sink.shown)[1], "a picture that is not drawn")
            with monkeypatch.context() as patch:
                patch.setattr(
                    sink, "_wait", lambda deadline_ns: pytest.fail("waited for a display that hangs")
                )
                sink.write(frame())

            def noticed() -> bool:
                sink.write(frame())
                return bool(sink.lost_because)

            wait_until(noticed, "that it hangs")
            assert not sink.shown and sink.missed > missed
            assert "the display has not answered for 2 s" in sink.take_notes()[0][1]
            screen.process.send_signal(signal.SIGCONT)
            show(sink)
            assert has(screen.screen(), FINISHED, 70_000)


def test_a_display_that_is_gone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with XDisplay() as first:
        monkeypatch.setenv("DISPLAY", first.name)
        with open_window() as sink:
            show(sink)
            first.end()

            def noticed() -> bool:
                sink.write(frame())
                return bool(sink.lost_because)

            wait_until(noticed, "that it is gone")
            with XDisplay(number=first.name) as second:
                show(sink)
                assert has(second.screen(), FINISHED, 70_000)
            assert [level for level, _ in sink.take_notes()][:2] == ["error", "info"]


def test_a_window_that_is_closed_leaves_no_process(display: XDisplay) -> None:
    sink = open_window()
    process = sink._process
    assert process is not None and process.poll() is None
    sink.close()
    assert process.returncode == 0
    wait_until(lambda: display.window() is None, "an empty screen")


def test_without_display_the_message_names_it_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for attempt in (check_sink, lambda spec: WindowSink(spec, SinkContext())):
        with pytest.raises(SinkError, match=r"sink window: DISPLAY='', it is not set; .*Try: --sink null"):
            attempt(parse_sink("window"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 only")
def test_a_display_that_does_not_answer_is_found_out_without_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(
        SinkError, match=r"sink window: DISPLAY=':4711', .+; expected a screen\. Try: --sink null"
    ):
        check_sink(parse_sink("window"))
    with pytest.raises(SinkError, match=r"DISPLAY=':4711', it does not answer; expected a screen"):
        open_window()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr("endostream.pipeline.window.sdl_screen._X11_LIBRARIES", ("libNoSuch.so.9",))
    assert _why_not("x11 not available") == "libNoSuch.so.9 is missing (apt-get install libx11-6 libxext6)"
    assert _why_not("out of memory") == "out of memory"


@pytest.mark.parametrize(
    ("text", "scancode", "word"),
    [("o", 18, "o"), ("O", 18, "o"), ("щ", 18, "o"), ("?", 56, "?"), ("ß", 45, "ß"), ("", 225, "")],
)
def test_a_key_is_known_by_its_letter_or_by_its_place(text: str, scancode: int, word: str) -> None:
    """The Russian щ lies where others have the o."""
    assert key_word(text, scancode) == word


def test_only_the_windows_own_process_loads_the_toolkit(sink: WindowSink) -> None:
    """Xlib ends whoever holds a display that goes away."""
    show(sink)
    assert "pygame" not in sys.modules
