"""The window: what it asks of the toolkit, how the user ends a run, and what happens without a display.

Most tests put a toolkit of our own in place of OpenCV's, since Qt ends the process where there is no
display. One shows a picture on a real X server without a screen (Xvfb) and reads it back from there.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.errors import SinkError
from endostream.pipeline import window_sink
from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.sink import SinkContext, SinkSpec, check_sink, parse_sink
from endostream.pipeline.window_sink import WindowSink

from .sink_contract import SinkContract, picture, presented

NO_KEY = -1


class Toolkit:
    """Stands in for OpenCV's highgui: one window, a key that can be pressed, and the pictures shown."""

    def __init__(self) -> None:
        self.shown: list[ImageBgr] = []
        self.size_wh: tuple[int, int] | None = None
        self.key = NO_KEY
        self.open = False
        self.ended = False

    def namedWindow(self, title: str, flags: int) -> None:  # noqa: N802
        self.open = True

    def resizeWindow(self, title: str, width: int, height: int) -> None:  # noqa: N802
        self.size_wh = (width, height)

    def getWindowProperty(self, title: str, name: int) -> float:  # noqa: N802
        if self.ended:
            raise cv2.error("NULL guiReceiver (please create a window)")
        return 1.0 if self.open else 0.0

    def imshow(self, title: str, image: ImageBgr) -> None:
        self.shown.append(image.copy())

    def pollKey(self) -> int:  # noqa: N802
        return self.key

    def destroyWindow(self, title: str) -> None:  # noqa: N802
        assert self.open
        self.open = False


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch) -> Toolkit:
    toolkit = Toolkit()
    for name in ("namedWindow", "resizeWindow", "getWindowProperty", "imshow", "pollKey", "destroyWindow"):
        monkeypatch.setattr(cv2, name, getattr(toolkit, name))
    monkeypatch.setattr(window_sink, "_PROBE", "")
    monkeypatch.setenv("DISPLAY", ":0")
    return toolkit


@pytest.fixture
def sink(toolkit: Toolkit) -> Iterator[WindowSink]:
    with WindowSink(parse_sink("window"), SinkContext()) as sink:
        yield sink


@pytest.mark.usefixtures("toolkit")
class TestWindowSink(SinkContract):
    address = "window"


def test_the_window_takes_the_size_of_the_first_picture(sink: WindowSink, toolkit: Toolkit) -> None:
    sink.write(presented(0, picture(48, 64)))
    sink.write(presented(1, picture(31, 17)))
    assert toolkit.size_wh == (64, 48)
    np.testing.assert_array_equal(toolkit.shown[1], picture(31, 17))


@pytest.mark.parametrize("key", [ord("q"), ord("Q"), 27])
def test_q_and_escape_ask_for_the_end(sink: WindowSink, toolkit: Toolkit, key: int) -> None:
    sink.write(presented(0))
    assert not sink.wants_stop
    toolkit.key = key
    sink.write(presented(1))
    assert sink.wants_stop
    assert len(toolkit.shown) == 2


@pytest.mark.parametrize("key", [NO_KEY, ord("x"), 0])
def test_no_other_key_does(sink: WindowSink, toolkit: Toolkit, key: int) -> None:
    toolkit.key = key
    sink.write(presented(0))
    assert not sink.wants_stop


@pytest.mark.parametrize("ended", [False, True])
def test_closing_the_window_asks_for_the_end_and_opens_no_other(
    sink: WindowSink, toolkit: Toolkit, ended: bool
) -> None:
    """Qt's back end of OpenCV raises from every call once its last window is gone."""
    sink.write(presented(0))
    toolkit.open, toolkit.ended = False, ended
    sink.write(presented(1))
    assert sink.wants_stop
    assert len(toolkit.shown) == 1
    sink.close()


def test_without_display_the_message_names_it_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for attempt in (check_sink, lambda spec: WindowSink(spec, SinkContext())):
        with pytest.raises(SinkError, match=r"sink window: DISPLAY='', it is not set; .*Try: --sink null"):
            attempt(parse_sink("window"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 only")
def test_a_display_that_does_not_answer_is_found_out_without_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(SinkError, match=r"DISPLAY=':4711', it takes no window; .*Try: --sink null"):
        check_sink(parse_sink("window"))


SHOW = """
import sys
from fractions import Fraction
import numpy as np
from endostream.pipeline.frame import Frame, FrameKey, Presented
from endostream.pipeline.sink import SinkContext, check_sink, open_sink, parse_sink

check_sink(parse_sink("window"))
image = np.full((240, 320, 3), (10, 200, 60), np.uint8)
with open_sink(parse_sink("window"), SinkContext()) as sink:
    for seq in range(20):
        sink.write(Presented(Frame(FrameKey(0, 0, seq), seq, Fraction(1, 25), 0, image)))
    print("shown", sink.wants_stop, flush=True)
    sys.stdin.read()
"""


def screen_of(folder: Path) -> ImageBgr:
    """The picture on Xvfb's screen, BGR, from the XWD file it keeps: big-endian header, then 32-bit pixels."""
    content = (folder / "Xvfb_screen0").read_bytes()
    header = struct.unpack(">25I", content[:100])
    header_bytes, width, height, line_bytes, colours = header[0], header[4], header[5], header[12], header[19]
    pixels = np.frombuffer(content, np.uint8, height * line_bytes, header_bytes + 12 * colours)
    return pixels.reshape(height, line_bytes)[:, : 4 * width].reshape(height, width, 4)[..., :3]


@pytest.fixture
def display(tmp_path: Path) -> Iterator[str]:
    """An X server on a number it chooses itself."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb here. Try: apt-get install xvfb")
    read_fd, write_fd = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_fd), "-screen", "0", "640x480x24", "-fbdir", str(tmp_path)]
    with subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=(write_fd,), stderr=subprocess.DEVNULL
    ) as server:
        os.close(write_fd)
        with os.fdopen(read_fd) as number:
            yield f":{number.readline().strip()}"
        server.terminate()
        server.wait(timeout=20)


def test_a_picture_appears_on_a_real_display(display: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOW]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DISPLAY": display},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "shown False\n"
        on_screen = (screen_of(tmp_path) == (10, 200, 60)).all(axis=2)
        child.communicate("", timeout=20)
    assert on_screen.sum() >= 0.9 * 240 * 320


def test_the_spec_is_a_presenting_one() -> None:
    assert parse_sink("window") == SinkSpec("window", "", "window")
