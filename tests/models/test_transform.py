"""The one transform: sizes, edges, round trips, and the fast path against the plain one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endostream.configs.errors import ConfigError
from endostream.models.transform import Rect, Transform


def disc(size_hw: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    inside: np.ndarray = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return inside


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    roi = Rect(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))
    return Transform((height, width), roi, (draw(st.integers(1, 70)), draw(st.integers(1, 70))))


def test_a_wide_region_is_padded_above_and_below() -> None:
    assert Transform((100, 200), Rect(0, 0, 100, 200), (320, 320)).content == Rect(80, 0, 160, 320)


def test_a_region_of_the_inputs_size_passes_unchanged() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    transform = Transform((6, 8), Rect(1, 2, 4, 5), (4, 5))
    assert np.array_equal(transform.forward(image), image[1:5, 2:7])


def test_padding_is_black_and_the_colour_order_is_kept() -> None:
    image = np.full((4, 8, 3), (10, 20, 30), np.uint8)
    forward = Transform.of_picture((4, 8), (8, 8)).forward(image)
    assert (forward[:2] == 0).all()
    assert (forward[6:] == 0).all()
    assert (forward[2:6] == (10, 20, 30)).all()


def test_shrinking_averages_areas() -> None:
    image = np.array([[0, 100, 20, 40], [100, 200, 60, 80]], np.uint8)
    assert Transform.of_picture((2, 4), (1, 2)).forward(image).tolist() == [[100, 50]]


def test_forward_never_hands_out_the_callers_own_memory() -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    Transform.of_picture((4, 4), (4, 4)).forward(image)[:] = 0
    assert (image == 7).all()


@pytest.mark.parametrize("source_hw", [(16, 16), (479, 561), (1080, 1920), (4320, 7680), (288, 384)])
def test_a_mask_comes_back_where_it_was(source_hw: tuple[int, int]) -> None:
    short = min(source_hw)
    transform = Transform.of_picture(source_hw, (320, 320))
    mask = disc(source_hw, (source_hw[0] * 0.45, source_hw[1] * 0.6), short * 0.3)
    assert iou(transform.inverse_mask(transform.forward_mask(mask)), mask) > 0.97


def test_a_region_touching_two_edges_comes_back_in_place() -> None:
    transform = Transform((480, 560), Rect(101, 203, 379, 357), (320, 320))
    mask = disc((480, 560), (400, 480), 70)
    assert iou(transform.inverse_mask(transform.forward_mask(mask)), mask) > 0.98


def test_a_full_mask_covers_the_region_and_nothing_else() -> None:
    transform = Transform((50, 70), Rect(5, 6, 40, 33), (32, 32))
    expected = np.zeros((50, 70), np.bool_)
    expected[5:45, 6:39] = True
    assert np.array_equal(transform.inverse_mask(np.ones((32, 32), np.bool_)), expected)


def test_an_empty_mask_has_an_empty_rectangle() -> None:
    placed = Transform.of_picture((50, 70), (32, 32)).inverse_mask_bounds(np.zeros((32, 32), np.bool_))
    assert placed.mask.shape == (0, 0)


def test_marks_in_the_padding_are_dropped() -> None:
    mask = np.zeros((32, 32), np.bool_)
    mask[:3] = True
    assert not Transform.of_picture((20, 40), (32, 32)).inverse_mask(mask).any()


@settings(max_examples=150, deadline=None)
@given(transforms(), st.integers(0, 2**32 - 1))
def test_the_mask_is_the_probability_brought_back_and_thresholded(transform: Transform, seed: int) -> None:
    mask = np.random.default_rng(seed).random(transform.input_hw) < 0.2
    thresholded = transform.inverse_prob(mask.astype(np.float32)) * 255
    differs = transform.inverse_mask(mask) != (thresholded > 127.5)
    assert (np.abs(thresholded[differs] - 127.5) < 2).all()  # only where 8-bit rounding decides


@settings(max_examples=150, deadline=None)
@given(transforms())
def test_any_transform_survives_the_wire_and_stays_inside(transform: Transform) -> None:
    assert Transform.from_ints(transform.to_ints()) == transform
    content = transform.content
    assert content.top >= 0
    assert content.left >= 0
    assert content.top + content.height <= transform.input_hw[0]
    assert content.left + content.width <= transform.input_hw[1]
    assert transform.forward(np.zeros((*transform.source_hw, 3), np.uint8)).shape == (*transform.input_hw, 3)


def test_probabilities_stay_in_range_and_in_place() -> None:
    transform = Transform((64, 64), Rect(16, 16, 32, 32), (16, 16))
    whole = transform.inverse_prob(np.full((16, 16), 0.75, np.float32))
    assert whole[16:48, 16:48].min() == whole[16:48, 16:48].max() == np.float32(0.75)
    assert whole.sum() == 0.75 * 32 * 32


@pytest.mark.parametrize("roi", [Rect(0, 0, 11, 5), Rect(-1, 0, 3, 3), Rect(0, 0, 0, 5), Rect(8, 0, 3, 3)])
def test_a_region_outside_the_picture_is_refused(roi: Rect) -> None:
    with pytest.raises(ConfigError, match="inside the picture"):
        Transform((10, 10), roi, (4, 4))


def test_arrays_of_another_size_or_type_are_refused() -> None:
    transform = Transform.of_picture((10, 12), (4, 4))
    with pytest.raises(ValueError, match="expected uint8"):
        transform.forward(np.zeros((12, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="expected bool"):
        transform.inverse_mask(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected float32"):
        transform.inverse_prob(np.zeros((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="8 of"):
        Transform.from_ints((1, 2, 3))
