"""What the window shows, checked pixel by pixel: proportions, bars, side by side, marks off, and the words over it."""

import numpy as np
import pytest

from endostream.pipeline.frame import Box, ImageBgr
from endostream.pipeline.window.window_picture import (
    MARKS_OFF,
    RECORDING,
    Chip,
    ScreenBgra,
    WindowContent,
    WindowPicture,
    WindowView,
    fitted,
    recording_failed,
)

FINISHED, RAW, PANEL = (10, 200, 60), (90, 40, 160), (255, 255, 255)
HUD = Box(2, 1, 8, 4)


def flat(colour: tuple[int, int, int], height: int = 40, width: int = 60) -> ImageBgr:
    return np.full((height, width, 3), colour, np.uint8)


def finished() -> ImageBgr:
    image = flat(FINISHED)
    image[HUD.y : HUD.y + HUD.height, HUD.x : HUD.x + HUD.width] = PANEL
    return image


def drawn(content: WindowContent, view: WindowView, height: int = 40, width: int = 60) -> ScreenBgra:
    screen = np.full((height, width, 4), 77, np.uint8)
    WindowPicture().draw(screen, content, view)
    return screen


def is_(part: ScreenBgra, colour: tuple[int, int, int]) -> bool:
    return bool((part[..., :3] == colour).all())


@pytest.mark.parametrize(
    ("size_hw", "into", "box"),
    [
        ((576, 720), Box(0, 0, 720, 576), Box(0, 0, 720, 576)),
        ((576, 720), Box(0, 0, 1920, 1080), Box(285, 0, 1350, 1080)),
        ((100, 400), Box(10, 20, 200, 200), Box(10, 95, 200, 50)),
        ((1, 4000), Box(0, 0, 100, 100), Box(0, 49, 100, 1)),
    ],
)
def test_a_picture_keeps_its_proportions_in_the_middle(size_hw: tuple[int, int], into: Box, box: Box) -> None:
    assert fitted(size_hw, into) == box


def test_a_window_of_the_pictures_size_shows_it_byte_for_byte() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    screen = drawn(WindowContent(image), WindowView())
    np.testing.assert_array_equal(screen[..., :3], image)


def test_a_wide_window_has_black_bars_left_and_right() -> None:
    screen = drawn(WindowContent(finished()), WindowView(), 40, 100)
    assert is_(screen[:, :20], (0, 0, 0)) and is_(screen[:, 80:], (0, 0, 0))
    assert is_(screen[10:, 20:80], FINISHED)


def test_side_by_side_has_the_captured_picture_left_and_the_finished_one_right() -> None:
    screen = drawn(WindowContent(finished(), flat(RAW), HUD), WindowView(side_by_side=True), 120, 242)
    assert is_(screen[62:98, 0:120], RAW)  # below the label
    assert is_(screen[60:98, 122:], FINISHED)
    assert is_(screen[:, 120:122], (0, 0, 0))


def test_without_the_captured_picture_one_picture_fills_the_window() -> None:
    screen = drawn(WindowContent(finished()), WindowView(side_by_side=True))
    assert is_(screen[10:], FINISHED)


def test_with_marks_off_the_captured_picture_is_shown_under_the_hud() -> None:
    """What the AI says is never hidden; that its marks are, is said as well."""
    screen = drawn(WindowContent(finished(), flat(RAW), HUD), WindowView(marks=False))
    assert is_(screen[1:5, 2:10], PANEL)
    assert is_(screen[5:], RAW) and is_(screen[:1], RAW) and is_(screen[:, 10:], RAW)


def test_marks_off_says_so_in_a_colour_of_its_own() -> None:
    content = WindowContent(flat(FINISHED, 240, 320), flat(RAW, 240, 320), None, (MARKS_OFF,))
    screen = drawn(content, WindowView(marks=False), 240, 320)
    amber = (screen[..., :3] == MARKS_OFF.paper).all(axis=2)
    assert amber.sum() > 1000
    assert not amber[:200].any() and not amber[:, 250:].any()


def test_recording_has_a_red_dot_and_failing_to_a_red_panel() -> None:
    red_dot = drawn(WindowContent(chips=(RECORDING,)), WindowView(), 240, 320)
    assert (red_dot[..., :3] == RECORDING.dot).all(axis=2).sum() > 40
    failed = recording_failed("disk full")
    assert failed.text == "NOT RECORDING: disk full"
    panel = drawn(WindowContent(chips=(failed,)), WindowView(), 240, 320)
    assert (panel[..., :3] == failed.paper).all(axis=2).sum() > 1000


def test_words_keep_clear_of_a_hud_in_the_lower_left_corner() -> None:
    image, hud = flat(FINISHED, 240, 320), Box(4, 200, 80, 30)
    screen = drawn(WindowContent(image, None, hud, (Chip("here"),)), WindowView(), 240, 320)
    assert is_(screen[:, :160], FINISHED)
    assert not is_(screen[:, 160:], FINISHED)


def test_a_text_that_is_too_long_stays_in_the_window() -> None:
    screen = drawn(WindowContent(chips=(Chip("x" * 500, (1, 2, 3)),)), WindowView(), 240, 320)
    assert is_(screen[:, 316:], (0, 0, 0))


def test_words_leave_nothing_behind_in_the_bars() -> None:
    picture, screen = WindowPicture(), np.zeros((240, 320, 4), np.uint8)
    for chips in ((Chip("a word"),), ()):
        picture.draw(
            screen, WindowContent(flat(FINISHED, 40, 320), None, None, chips), WindowView(help=bool(chips))
        )
    assert is_(screen[:100], (0, 0, 0)) and is_(screen[140:], (0, 0, 0))
    assert is_(screen[100:140], FINISHED)


def test_the_help_lies_in_the_middle() -> None:
    screen = drawn(WindowContent(flat(FINISHED, 480, 640)), WindowView(help=True), 480, 640)
    changed = ~(screen[..., :3] == FINISHED).all(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert abs(rows[0] + rows[-1] - 480) < 4 and abs(columns[0] + columns[-1] - 640) < 4
    assert changed.sum() > 20_000


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (16, 400), (400, 16)])
def test_windows_of_any_size_are_drawn(height: int, width: int) -> None:
    content = WindowContent(finished(), flat(RAW), HUD, (MARKS_OFF, RECORDING))
    for view in (WindowView(help=True), WindowView(side_by_side=True), WindowView(marks=False)):
        assert drawn(content, view, height, width).shape == (height, width, 4)
