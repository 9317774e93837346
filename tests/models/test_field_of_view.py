"""The field of view: shapes drawn here, real pictures, and its steadiness over a video."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.models.field_of_view import FieldOfView, FieldOfViewTracker, blank_outside, find_field_of_view
from endostream.models.transform import Rect, Transform

Image = np.ndarray
TISSUE_BGR = (70, 90, 190)
SCOPE_GUIDE_BGR = (140, 165, 20)


def tissue(size_hw: tuple[int, int], seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(-30, 30, (*size_hw, 3))
    image: Image = np.clip(np.array(TISSUE_BGR) + noise, 0, 255).astype(np.uint8)
    return image


def shown(size_hw: tuple[int, int], inside: Image, border: int = 0, seed: int = 0) -> Image:
    return np.where(inside[..., None], tissue(size_hw, seed), np.uint8(border)).astype(np.uint8)


def octagon(size_hw: tuple[int, int], rect: Rect, cut: int) -> Image:
    top, left, height, width = rect
    bottom, right = top + height - 1, left + width - 1
    points = [
        (left + cut, top), (right - cut, top), (right, top + cut), (right, bottom - cut),
        (right - cut, bottom), (left + cut, bottom), (left, bottom - cut), (left, top + cut),
    ]  # fmt: skip
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillConvexPoly(mask, np.array(points, np.int32), 1)
    return mask > 0


def disc(size_hw: tuple[int, int], centre: tuple[int, int], radius: int) -> Image:
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    inside: Image = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return inside


def assert_close(found: Rect, expected: Rect, within_px: int) -> None:
    edges = [(r.top, r.left, r.top + r.height, r.left + r.width) for r in (found, expected)]
    assert np.abs(np.subtract(*edges)).max() <= within_px, (found, expected)


@pytest.mark.parametrize("border", [0, 11, 20])
def test_an_octagon_is_found_to_a_thumbnail_pixel_and_loses_no_tissue(border: int) -> None:
    rect = Rect(40, 300, 1000, 1100)
    inside = octagon((1080, 1920), rect, 250)
    view = find_field_of_view(shown((1080, 1920), inside, border))
    assert_close(view.rect, rect, 16)
    assert not (inside & ~view.mask).any()
    assert (view.mask & ~inside).sum() < 0.06 * inside.sum()


def test_a_disc_is_found() -> None:
    inside = disc((480, 640), (240, 330), 200)
    view = find_field_of_view(shown((480, 640), inside))
    assert_close(view.rect, Rect(40, 130, 401, 401), 6)
    assert not (inside & ~view.mask).any()
    assert not view.mask[40:60, 130:150].any()


@pytest.mark.parametrize("size_hw", [(480, 640), (1080, 1920), (306, 370), (4320, 7680)])
def test_a_picture_without_border_is_whole(size_hw: tuple[int, int]) -> None:
    assert find_field_of_view(tissue(size_hw)) == FieldOfView.whole(size_hw)


@pytest.mark.parametrize("size_hw", [(16, 16), (1, 1), (31, 200), (2000, 20)])
def test_a_tiny_picture_is_whole(size_hw: tuple[int, int]) -> None:
    assert find_field_of_view(tissue(size_hw)).is_whole


@pytest.mark.parametrize("level", [0, 5, 16])
def test_a_dark_picture_is_whole(level: int) -> None:
    assert find_field_of_view(np.full((480, 640, 3), level, np.uint8)).is_whole


def test_a_lumen_at_the_edge_is_not_cropped_away() -> None:
    image = tissue((480, 640))
    dark = disc((480, 640), (240, 0), 200)
    image[dark] = image[dark] // 6  # a lumen is dark but not black
    assert find_field_of_view(image).rect == Rect(0, 0, 480, 640)


def test_text_beside_the_picture_is_outside_and_is_blanked() -> None:
    inside = octagon((576, 720), Rect(10, 180, 556, 530), 130)
    image = shown((576, 720), inside)
    for row, (text, colour) in enumerate([("Name: DOE", (255, 255, 255)), ("12/03/2014", (0, 255, 255))]):
        cv2.putText(image, text, (8, 60 + 60 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, 2)
    before = image.copy()
    view = find_field_of_view(image)
    assert_close(view.rect, Rect(10, 180, 556, 530), 6)
    blank_outside(image, view)
    assert not image[:, :170].any()
    assert np.array_equal(image[view.mask], before[view.mask])


def test_a_grey_panel_beside_the_picture_is_outside() -> None:
    image = tissue((480, 854))
    image[:, :200] = 90
    view = find_field_of_view(image)
    assert_close(view.rect, Rect(0, 200, 480, 654), 8)


@pytest.mark.parametrize("colour", [SCOPE_GUIDE_BGR, (0, 0, 0)])
def test_a_scope_guide_inset_is_marked_green_or_blacked_out(colour: tuple[int, int, int]) -> None:
    image = shown((530, 622), octagon((530, 622), Rect(0, 0, 530, 622), 100))
    image[350:, :200] = colour
    view = find_field_of_view(image)
    assert view.rect == Rect(0, 0, 530, 622)
    assert len(view.insets) == 1
    assert_close(view.insets[0], Rect(350, 0, 180, 200), 6)
    assert not view.mask[360:, :190].any()


def test_an_octagons_own_corners_are_no_insets() -> None:
    image = shown((530, 622), octagon((530, 622), Rect(0, 0, 530, 622), 120))
    assert find_field_of_view(image).insets == ()


def test_the_mask_at_the_input_leaves_border_and_padding_out() -> None:
    inside = octagon((400, 800), Rect(0, 200, 400, 400), 100)
    view = find_field_of_view(shown((400, 800), inside))
    at_input = view.mask_at_input(Transform.of_picture((400, 800), (320, 320)))
    assert at_input.shape == (320, 320)
    assert at_input[160, 160]
    assert not at_input[:80].any()
    assert not at_input[:, :70].any()


def test_blanking_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected height and width"):
        blank_outside(np.zeros((10, 10, 3), np.uint8), FieldOfView.whole((20, 20)))


def octagon_video(seed: int) -> Image:
    return shown((480, 640), octagon((480, 640), Rect(20, 120, 440, 480), 110), seed=seed)


def views_of(tracker: FieldOfViewTracker, make: Callable[[int], Image], count: int) -> list[FieldOfView]:
    return [tracker.update(make(index)) for index in range(count)]


def test_the_tracker_answers_at_once_and_then_with_the_same_object() -> None:
    views = views_of(FieldOfViewTracker(every_frames=1), octagon_video, 12)
    assert_close(views[0].rect, Rect(20, 120, 440, 480), 6)
    assert all(view is views[0] for view in views)


def test_the_tracker_keeps_the_last_view_through_dark_frames() -> None:
    tracker = FieldOfViewTracker(every_frames=1)
    last = views_of(tracker, octagon_video, 4)[-1]
    assert all(view is last for view in views_of(tracker, lambda _: np.full((480, 640, 3), 6, np.uint8), 20))


def test_one_bright_frame_does_not_move_the_view() -> None:
    tracker = FieldOfViewTracker(every_frames=1)
    last = views_of(tracker, octagon_video, 8)[-1]
    assert tracker.update(tissue((480, 640))) is last
    assert all(view is last for view in views_of(tracker, octagon_video, 12))


def test_a_lasting_change_is_followed_after_several_estimates() -> None:
    tracker = FieldOfViewTracker(every_frames=1, agree=3, window=5)
    first = views_of(tracker, octagon_video, 5)[-1]
    views = views_of(tracker, lambda index: tissue((480, 640), index), 6)
    assert views[2] is first
    assert views[-1].is_whole
    assert views_of(tracker, octagon_video, 8)[-1].rect == first.rect


def test_a_dark_first_frame_gives_the_whole_picture_until_there_is_light() -> None:
    tracker = FieldOfViewTracker()
    assert tracker.update(np.zeros((480, 640, 3), np.uint8)).is_whole
    assert_close(tracker.update(octagon_video(0)).rect, Rect(20, 120, 440, 480), 6)


def test_a_new_picture_size_starts_anew() -> None:
    tracker = FieldOfViewTracker()
    tracker.update(octagon_video(0))
    assert tracker.update(tissue((300, 400))) == FieldOfView.whole((300, 400))
    assert tracker.update(tissue((16, 16))) == FieldOfView.whole((16, 16))


@pytest.mark.data
def test_real_green_insets_are_marked(data_dir: Path) -> None:
    for name in ("cjyzk8qieoboa0848ogj51wwm", "cjyzuio1qgh040763k56deohv"):
        path = data_dir / "kvasir-seg" / "images" / f"{name}.jpg"
        image = cv2.imread(str(path))
        if image is None:
            pytest.skip(f"no picture {path}")
        view = find_field_of_view(image)
        height, width = image.shape[:2]
        largest = max(view.insets, key=lambda inset: inset.height * inset.width)
        assert largest.top > height * 0.6
        assert largest.left + largest.width < width * 0.4
        assert 0.04 < largest.height * largest.width / (height * width) < 0.12


@pytest.mark.data
def test_annotated_polyps_of_real_pictures_lie_inside_the_view(data_dir: Path) -> None:
    paths = sorted((data_dir / "kvasir-seg" / "images").glob("*.jpg"))[::30]
    if not paths:
        pytest.skip(f"no pictures in {data_dir / 'kvasir-seg' / 'images'}")
    for path in paths:
        image = cv2.imread(str(path))
        polyp = cv2.imread(str(data_dir / "kvasir-seg" / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert polyp is not None
        inside = find_field_of_view(image).mask
        assert ((polyp > 127) & ~inside).sum() <= 0.03 * (polyp > 127).sum(), path.name
