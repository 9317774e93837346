"""The HUD: what it says in each state, where it lies, and that it touches only the rectangle it names."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from endostream.pipeline.frame import Box, ImageBgr, MaskState
from endostream.pipeline.hud import HudInfo, draw_hud, hud_rect, hud_text, no_signal_picture, warm_up_hud

STATES = {
    "nothing found": HudInfo(MaskState.FRESH, 40, 25, "fcm"),
    "finding": HudInfo(MaskState.FRESH, 40, 25, "fcm", finding=True),
    "held": HudInfo(MaskState.HELD, 160, 25, "fcm", finding=True),
    "stale": HudInfo(MaskState.STALE, 340, 25, "fcm"),
    "absent": HudInfo(MaskState.ABSENT, None, None, "fcm"),
    "failed": HudInfo(MaskState.FAILED, None, 25, "fcm", cause="infer_down"),
}
SIZES = [(240, 320), (288, 384), (480, 560), (576, 720), (1080, 1920), (2160, 3840)]


def noise(height: int, width: int) -> ImageBgr:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def panel(info: HudInfo) -> ImageBgr:
    image = np.zeros((480, 560, 3), dtype=np.uint8)
    rect = draw_hud(image, info)
    assert rect is not None
    return image[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]


def test_each_state_has_its_own_words() -> None:
    assert {name: hud_text(info)[0] for name, info in STATES.items()} == {
        "nothing found": "AI: no finding",
        "finding": "AI: FINDING",
        "held": "AI: FINDING",
        "stale": "AI LATE - no marks",
        "absent": "AI starting",
        "failed": "AI OFF - infer down",
    }


def test_age_rate_segmenter_and_time_are_told() -> None:
    info = HudInfo(MaskState.FRESH, 39.7, 24.96, "fcm", time_s=75.9)
    assert hud_text(info)[1:] == ("mask 40 ms  25 fps", "fcm  1:15")
    assert hud_text(STATES["held"])[1] == "held 160 ms  25 fps"
    assert hud_text(STATES["absent"])[1] == "no mask"
    building = HudInfo(MaskState.ABSENT, None, 25.0, "resunet-small", cause="building engine 40 %")
    assert hud_text(building) == ("AI starting", "building engine 40 %", "resunet-small")
    again = HudInfo(MaskState.FAILED, None, 25.0, "resunet-small", cause="building engine 40 %")
    assert hud_text(again) == ("AI OFF", "building engine 40 %", "resunet-small")


@pytest.mark.parametrize(
    ("one", "other"), list(combinations(["nothing found", "stale", "absent", "failed"], 2))
)
def test_not_working_looks_unlike_nothing_found(one: str, other: str) -> None:
    """The background alone, most of the panel, tells them apart at a glance."""
    colours = [np.median(panel(STATES[name]).reshape(-1, 3), axis=0) for name in (one, other)]
    assert np.abs(colours[0] - colours[1]).max() > 60


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("size_hw", SIZES)
def test_only_the_named_rectangle_is_touched_and_all_of_it_is_opaque(
    size_hw: tuple[int, int], state: str
) -> None:
    before = noise(*size_hw)
    first, second = before.copy(), 255 - before
    rect = draw_hud(first, STATES[state])
    assert rect == draw_hud(second, STATES[state])
    assert rect is not None
    inside = np.zeros(size_hw, dtype=np.bool_)
    inside[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = True
    np.testing.assert_array_equal(first[~inside], before[~inside])
    np.testing.assert_array_equal(first[inside], second[inside])


@pytest.mark.parametrize("size_hw", SIZES)
def test_the_panel_is_readable_and_small(size_hw: tuple[int, int]) -> None:
    rect = hud_rect(size_hw)
    assert rect is not None
    assert rect.height >= 3 * 15
    assert rect.width * rect.height <= 0.08 * size_hw[0] * size_hw[1]


def test_text_contrasts_with_its_background_in_every_state() -> None:
    """At least 4.5 to 1, the ratio WCAG 2.1 asks of text."""
    for name, info in STATES.items():
        image = panel(info)[:16, 8:]
        linear = (image.astype(float) / 255) ** 2.2
        light = linear @ np.array((0.0722, 0.7152, 0.2126))
        paper = np.median(light)
        best = max((light.max() + 0.05) / (paper + 0.05), (paper + 0.05) / (light.min() + 0.05))
        assert best >= 4.5, name


@pytest.mark.parametrize("size_hw", [(16, 16), (1, 1), (60, 80), (16, 1000)])
def test_a_picture_too_small_for_text_is_left_alone(size_hw: tuple[int, int]) -> None:
    before = noise(*size_hw)
    after = before.copy()
    assert draw_hud(after, STATES["failed"]) is None
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("view", "corner"),
    [
        (Box(600, 0, 1320, 1080), (7, 7)),
        (Box(0, 0, 1320, 1080), (1652, 7)),
        (Box(0, 0, 1920, 900), (1652, 974)),
        (None, (7, 7)),
    ],
)
def test_the_panel_lies_in_the_black_border_where_there_is_one(
    view: Box | None, corner: tuple[int, int]
) -> None:
    rect = hud_rect((1080, 1920), view)
    assert rect is not None
    assert (rect.x, rect.y) == corner


def test_the_panel_stays_where_it_is_whatever_it_says() -> None:
    infos = [*STATES.values(), HudInfo(MaskState.FAILED, 123456, 1000, "a" * 80, cause="b" * 80)]
    assert len({draw_hud(noise(480, 560), info) for info in infos}) == 1


def test_long_text_is_cut_short_inside_the_panel() -> None:
    image = panel(HudInfo(MaskState.FAILED, None, 25, "fcm", cause="x" * 80))
    np.testing.assert_array_equal(image[:, -2:], np.broadcast_to(image[0, -1], image[:, -2:].shape))


def test_a_changed_line_is_redrawn() -> None:
    assert (panel(STATES["finding"]) != panel(STATES["held"])).any()
    np.testing.assert_array_equal(panel(STATES["finding"]), panel(STATES["finding"]))


def test_warming_up_takes_any_size() -> None:
    for size_hw in ((16, 16), (480, 560)):
        warm_up_hud(size_hw)


def test_no_signal_card_has_the_size_asked_for_and_says_so() -> None:
    card = no_signal_picture((480, 560), 12.2)
    assert card.shape == (480, 560, 3)
    assert card.dtype == np.uint8
    ink = cv2.countNonZero((card[..., 0] > 128).astype(np.uint8))
    assert ink > 1000
    assert (card != no_signal_picture((480, 560), 13.2)).any()


@pytest.mark.parametrize("size_hw", [(1, 1), (16, 16), (60, 600), (1080, 1920)])
def test_no_signal_card_can_be_made_in_any_size(size_hw: tuple[int, int]) -> None:
    assert no_signal_picture(size_hw, 0).shape == (*size_hw, 3)
