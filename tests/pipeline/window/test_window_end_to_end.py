"""Whole runs with a window on a real X server: every key, the close button, and a display that goes away meanwhile."""

import json
import signal
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.window.window_picture import MARKS_OFF, RECORDING

from ..end_to_end import Run
from .x_display import XDisplay, wait_until

MARK = (160, 255, 40)
"""Colour of contour and box."""
PHANTOM = ("phantom:320x240@25", "--speed", "realtime", "--sink", "window", "--sink", "video:o.mkv")


def has(screen: ImageBgr, colour: tuple[int, int, int] | None, least_px: int) -> bool:
    return int((screen == np.array(colour)).all(axis=2).sum()) >= least_px


def frames_in(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def said(run: Run, words: str) -> None:
    run.wait_for(lambda: words in run.stderr, words)


def windowed(folder: Path, display: XDisplay, seconds: float, *more: str) -> Run:
    settings = ("--set", f"phantom.duration_s={seconds}", "--set", "window.snapshot_folder=shots", *more)
    return Run(folder, *PHANTOM, *settings, environment={"DISPLAY": display.name})


def test_every_key_does_what_the_help_says_and_is_logged(tmp_path: Path) -> None:
    no_hud = ("--set", "overlay.hud=false")  # it has the marks' colour too while there is a finding
    with XDisplay() as display, windowed(tmp_path, display, 3600, *no_hud) as run:
        display.wait_for(lambda screen: has(screen, MARK, 50), "marks")
        display.press("o")
        said(run, "window: marks off (key o)")
        screen = display.wait_for(lambda screen: has(screen, MARKS_OFF.paper, 500), "that marks are off")
        display.wait_for(lambda screen: not has(screen, MARK, 1), "a picture without marks")
        assert screen.any()
        display.press("o")
        display.wait_for(lambda screen: has(screen, MARK, 50), "marks again")
        display.press("h")
        display.wait_for(lambda screen: has(screen, (28, 24, 22), 10_000), "the help")
        display.press("question")
        said(run, "window: help off (key ?)")
        display.press("b")
        said(run, "window: side by side on (key b)")
        display.press("b")
        display.press("f")
        display.wait_for(lambda screen: int(screen.any(axis=2).sum()) > 200_000, "a full screen")
        display.press("s")
        said(run, "snapshot: shots/")
        display.press("r")
        display.wait_for(lambda screen: has(screen, RECORDING.dot, 10), "the red dot")
        run.wait_for_frames(5)
        display.press("q")
        ended = run.end()
    assert ended.code == 0, ended.stderr
    for line in ("window: snapshot (key s)", "window: full screen on (key f)", "window: quit (key q)"):
        assert line in ended.stderr
    assert ended.report["presenting_sink"] == "window"
    assert ended.report["frames"]["ledger_closed"]
    assert frames_in(tmp_path / "o.mkv") == ended.report["sinks"]["video:o.mkv"]["written"]
    assert "window: recording on (key r)" in ended.stderr
    assert len(list((tmp_path / "recordings").glob("*/session.json"))) == 1
    assert [fault for fault in ended.report["faults"] if "window: " in json.dumps(fault)] == []
    assert_a_snapshot_is_kept(tmp_path / "shots")


def assert_a_snapshot_is_kept(folder: Path) -> None:
    raw_path, overlay_path = sorted(folder.iterdir(), key=lambda path: path.name.endswith("overlay.png"))
    assert raw_path.name == overlay_path.name.replace("overlay", "raw")
    raw, overlay = cv2.imread(str(raw_path)), cv2.imread(str(overlay_path))
    assert raw is not None and overlay is not None
    assert raw.shape == overlay.shape == (240, 320, 3)
    changed = (raw != overlay).any(axis=2)
    assert 100 < changed.sum() < 40_000  # the marks and the HUD, and nothing else
    np.testing.assert_array_equal(raw[~changed], overlay[~changed])


def test_the_close_button_ends_the_run_with_its_files_finished(tmp_path: Path) -> None:
    with XDisplay() as display, windowed(tmp_path, display, 3600) as run:
        run.wait_for_frames(10)
        wait_until(display.window, "the window")
        display.close_window()
        ended = run.end()
    assert ended.code == 0, ended.stderr
    assert "window: quit (key close button)" in ended.stderr
    assert frames_in(tmp_path / "o.mkv") == ended.report["sinks"]["video:o.mkv"]["written"] >= 10


def test_a_source_that_stands_still_can_be_quit(tmp_path: Path) -> None:
    """A key once was heard only when a picture came."""
    with XDisplay() as display, windowed(tmp_path, display, 3600) as run:
        run.wait_for_frames(3)
        run.kill("capture", signal.SIGSTOP)
        display.press("Escape")
        said(run, "window: quit (key escape)")
        ended = run.end()
    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_display_that_goes_away_stops_neither_video_nor_recording(tmp_path: Path, comes_back: bool) -> None:
    with XDisplay() as display, windowed(tmp_path, display, 3600) as run:
        display.wait_for(lambda screen: bool(screen.any()), "a picture")
        run.wait_for_frames(10)
        display.end()
        said(run, "the run goes on unseen")
        run.wait_for_frames(25)
        if comes_back:
            with XDisplay(number=display.name) as again:
                again.wait_for(lambda screen: bool(screen.any()), "a picture again")
                again.press("q")
                ended = run.end()
        else:
            run.send(signal.SIGINT)
            ended = run.end()
    frames = ended.report["frames"]
    assert frames["ledger_closed"] and frames["not_shown"] >= 25
    assert ended.report["video_delay_ms"]["n"] == frames["presented"] - frames["not_shown"]
    assert ended.report["longest_freeze_ms"] > 500 or not comes_back
    assert ended.report["stages"]["overlay"]["restarts"] == 0
    assert frames_in(tmp_path / "o.mkv") == ended.report["sinks"]["video:o.mkv"]["written"]
    if comes_back:
        assert ended.code == 0, ended.stderr
        assert "window: is back after" in ended.stderr
    else:
        assert ended.code == 130, ended.stderr
        assert "window: not there at the end of the run" in ended.stderr


def test_a_run_does_not_begin_without_its_display(tmp_path: Path) -> None:
    with Run(tmp_path, *PHANTOM, environment={"DISPLAY": ":4711"}) as run:
        ended = run.end()
    assert ended.code == 1
    assert "sink window: DISPLAY=':4711'" in ended.stderr and "Try: --sink null" in ended.stderr
