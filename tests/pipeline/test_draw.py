"""Marks: what is prepared from a mask, and that drawing touches the marked pixels and no others."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from endostream.pipeline.draw import (
    MAX_COMPONENTS,
    NO_MARKS,
    MarkStyle,
    draw_marks,
    line_width_px,
    marked_pixels,
    marks_from_mask,
)
from endostream.pipeline.frame import Box, ImageBgr

STYLES = {
    "all": MarkStyle(),
    "fill": MarkStyle(contour=False, box=False),
    "contour": MarkStyle(fill_alpha=0, box=False),
    "box": MarkStyle(fill_alpha=0, contour=False),
    "thick": MarkStyle(line_px=5),
    "opaque": MarkStyle(fill_alpha=1.0),
    "nothing": MarkStyle(fill_alpha=0, contour=False, box=False),
}


def noise(height: int, width: int, seed: int = 1) -> ImageBgr:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def ellipse(height: int, width: int, centre: tuple[int, int], axes: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.ellipse(mask, centre, axes, 20, 0, 360, (1,), -1)
    return mask.astype(np.bool_)


def test_components_become_boxes_in_picture_pixels_largest_first() -> None:
    mask = mask_of("##....", "......", "...###", "...###")
    marks = marks_from_mask(mask, top=10, left=20)
    assert marks.boxes == (Box(23, 12, 3, 2), Box(20, 10, 2, 1))
    assert marks.area_px == 8
    assert [component.area_px for component in marks.components] == [6, 2]
    assert [component.mask.all() for component in marks.components] == [True, True]


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    assert marks_from_mask(mask_of("#.", ".#")).boxes == (Box(0, 0, 2, 2),)


def test_specks_are_dropped() -> None:
    marks = marks_from_mask(mask_of("#.....", "..##..", "..##..", ".....#"), top=1, left=2, min_area_px=2)
    assert marks.boxes == (Box(4, 2, 2, 2),)
    assert marks.area_px == 4
    assert marks.components[0].mask.tolist() == [[True, True], [True, True]]


def test_a_hole_is_not_counted_and_not_filled() -> None:
    marks = marks_from_mask(mask_of("###", "#.#", "###"))
    assert marks.area_px == 8
    picture = np.zeros((3, 3, 3), dtype=np.uint8)
    draw_marks(picture, marks, MarkStyle((10, 20, 30), 1.0, contour=False, box=False))
    assert picture[1, 1].tolist() == [0, 0, 0]
    assert picture[0, 0].tolist() == [10, 20, 30]


def test_area_is_counted_for_each_component_where_their_boxes_overlap() -> None:
    marks = marks_from_mask(mask_of("#####", "#....", "#.##.", "#.##.", "#...."), min_area_px=5)
    assert marks.boxes == (Box(0, 0, 5, 5),)
    assert marks.area_px == 9


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.zeros((0, 0), bool), mask_of("#.", "..")])
def test_nothing_left_means_no_marks(mask: np.ndarray) -> None:
    assert marks_from_mask(mask, 3, 4, min_area_px=2) == NO_MARKS


def test_the_mask_handed_in_is_left_as_it_was() -> None:
    mask = mask_of("#..", "..#")
    marks_from_mask(mask, min_area_px=5)
    assert mask.tolist() == [[True, False, False], [False, False, True]]


def test_a_mask_full_of_specks_is_cut_to_the_largest_components() -> None:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[::3, ::3] = True
    mask[0:2, 0:2] = True
    marks = marks_from_mask(mask)
    assert len(marks.boxes) == MAX_COMPONENTS
    assert marks.boxes[0] == Box(0, 0, 2, 2)


def test_components_in_overlapping_boxes_are_each_filled_once() -> None:
    picture = np.full((5, 5, 3), 100, dtype=np.uint8)
    mask = mask_of("#####", "#....", "#.##.", "#.##.", "#....")
    draw_marks(picture, marks_from_mask(mask), MarkStyle((200, 200, 200), 0.5, contour=False, box=False))
    np.testing.assert_array_equal(picture[..., 0], np.where(mask, 150, 100))


def test_the_contour_of_a_round_finding_lies_on_its_edge_though_the_mask_has_stairs() -> None:
    small = np.zeros((40, 40), dtype=np.uint8)
    cv2.circle(small, (20, 20), 12, (1,), -1)
    stairs = cv2.resize(small, (240, 240), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    [component] = marks_from_mask(stairs).components
    radius = np.hypot(*(component.contour[:, 0] - (122.5, 122.5)).T)
    assert radius.min() > 72 - 3
    assert radius.max() < 72 + 6
    assert np.ptp(radius) < 5


def test_fill_mixes_the_colour_in_exactly() -> None:
    picture = np.full((2, 2, 3), (100, 0, 200), dtype=np.uint8)
    style = MarkStyle((200, 100, 0), 0.25, contour=False, box=False)
    draw_marks(picture, marks_from_mask(mask_of("#.", "..")), style)
    assert picture.tolist() == [[[125, 25, 150], [100, 0, 200]], [[100, 0, 200], [100, 0, 200]]]


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize(("centre", "axes"), [((60, 40), (20, 12)), ((2, 3), (15, 9)), ((119, 88), (30, 8))])
def test_every_pixel_outside_the_marked_ones_stays_as_it_was(
    name: str, centre: tuple[int, int], axes: tuple[int, int]
) -> None:
    marks = marks_from_mask(ellipse(90, 120, centre, axes))
    marked = marked_pixels(marks, STYLES[name], (90, 120))
    for before in (noise(90, 120), np.zeros((90, 120, 3), np.uint8), np.full((90, 120, 3), 255, np.uint8)):
        after = before.copy()
        draw_marks(after, marks, STYLES[name])
        assert not ((before != after).any(axis=2) & ~marked).any()


@pytest.mark.parametrize("name", STYLES)
def test_marked_pixels_lie_on_the_mask_and_in_a_narrow_band_around_it(name: str) -> None:
    """Counterpart of the test above: naming the whole picture would not do."""
    style = STYLES[name]
    mask = ellipse(90, 120, (60, 40), (20, 12))
    line_px = line_width_px(style, (90, 120))
    reach = np.ones((2 * (3 * line_px) + 1,) * 2, dtype=np.uint8)
    box = np.zeros((90, 120), dtype=np.uint8)
    for x, y, width, height in marks_from_mask(mask).boxes:
        box[y : y + height, x : x + width] = 1
    near = cv2.dilate(box, reach).astype(bool) & (cv2.erode(box, np.ones((3, 3), np.uint8)) == 0) | mask
    near |= cv2.dilate(mask.astype(np.uint8), np.ones((2 * line_px + 3,) * 2, np.uint8)).astype(bool)
    assert not (marked_pixels(marks_from_mask(mask), style, (90, 120)) & ~near).any()


def test_each_part_of_the_style_is_visible() -> None:
    marks = marks_from_mask(ellipse(90, 120, (60, 40), (20, 12)))
    changed = {}
    for name in ("fill", "contour", "box", "nothing"):
        picture = np.zeros((90, 120, 3), dtype=np.uint8)
        draw_marks(picture, marks, STYLES[name])
        changed[name] = int((picture != 0).any(axis=2).sum())
    assert changed["fill"] == marks.area_px
    assert changed["contour"] > 80
    assert changed["box"] > 40
    assert changed["nothing"] == 0


def test_no_marks_draw_nothing() -> None:
    before = noise(20, 30)
    after = before.copy()
    draw_marks(after, NO_MARKS, MarkStyle())
    np.testing.assert_array_equal(before, after)
    assert not marked_pixels(NO_MARKS, MarkStyle(), (20, 30)).any()


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (16, 16), (5, 400)])
def test_a_mask_that_fills_a_tiny_picture_can_be_drawn(size_hw: tuple[int, int]) -> None:
    marks = marks_from_mask(np.ones(size_hw, dtype=np.bool_))
    draw_marks(noise(*size_hw), marks, MarkStyle())
    assert marks.boxes == (Box(0, 0, size_hw[1], size_hw[0]),)


def test_lines_grow_with_the_picture() -> None:
    sizes = ((240, 320), (480, 560), (576, 720), (1080, 1920), (2160, 3840))
    assert [line_width_px(MarkStyle(), size) for size in sizes] == [1, 1, 2, 3, 6]


@pytest.mark.data
def test_a_real_frame_keeps_its_pixels_outside_the_marks(data_dir: Path) -> None:
    with av.open(str(data_dir / "videos" / "colonoscopy_polyp_560x480_25fps.avi")) as container:
        before = next(container.decode(video=0)).to_ndarray(format="bgr24")
    marks = marks_from_mask(ellipse(480, 560, (400, 220), (60, 45)))
    after = before.copy()
    draw_marks(after, marks, MarkStyle())
    changed = (before != after).any(axis=2)
    assert not (changed & ~marked_pixels(marks, MarkStyle(), (480, 560))).any()
    assert changed.sum() > 0.9 * marks.area_px
