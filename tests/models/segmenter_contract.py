"""What every segmenter must hold; a new one subclasses SegmenterContract and names how it is opened.

class TestMine(SegmenterContract):
    def open_segmenter(self) -> Segmenter:
        return MySegmenter(...)
"""

from collections.abc import Iterator

import numpy as np
import pytest

from endostream.models.segmenter import SEGMENTERS, Segmenter


def scene(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Reddish noise with a brighter disc, in a black border: RGB, uint8."""
    height, width = size_hw
    noise = np.random.default_rng(seed).integers(-12, 12, (height, width, 3))
    image = np.array([150, 80, 60]) + noise
    rows, columns = np.ogrid[:height, :width]
    image[(rows - height * 0.4) ** 2 + (columns - width * 0.6) ** 2 < (min(size_hw) * 0.2) ** 2] += 70
    edge = min(size_hw) // 10
    image[:edge] = image[-edge:] = 0
    return image.clip(0, 255).astype(np.uint8)


class SegmenterContract:
    """Tests of the protocol in models/segmenter.py."""

    def open_segmenter(self) -> Segmenter:
        raise NotImplementedError

    @pytest.fixture
    def segmenter(self) -> Iterator[Segmenter]:
        opened = self.open_segmenter()
        yield opened
        opened.close()

    def test_it_says_what_it_is(self, segmenter: Segmenter) -> None:
        assert isinstance(segmenter, Segmenter)
        assert segmenter.info.name in SEGMENTERS
        assert segmenter.info.runtime
        assert min(segmenter.info.input_hw) > 0

    def test_a_mask_is_bool_of_the_inputs_size_and_comes_without_probabilities(
        self, segmenter: Segmenter
    ) -> None:
        answer = segmenter.segment(scene(segmenter.info.input_hw))
        assert answer.mask.shape == segmenter.info.input_hw
        assert answer.mask.dtype == np.bool_
        assert answer.prob is None

    def test_probabilities_are_float32_from_0_to_1(self, segmenter: Segmenter) -> None:
        prob = segmenter.segment(scene(segmenter.info.input_hw), "prob").prob
        assert prob is not None
        assert prob.shape == segmenter.info.input_hw
        assert prob.dtype == np.float32
        assert prob.min() >= 0
        assert prob.max() <= 1

    def test_the_mask_is_where_the_probability_exceeds_one_half(self, segmenter: Segmenter) -> None:
        for seed in range(3):
            image = scene(segmenter.info.input_hw, seed)
            answer = segmenter.segment(image, "prob")
            assert answer.prob is not None
            assert np.array_equal(answer.mask, answer.prob > 0.5)
            assert np.array_equal(answer.mask, segmenter.segment(image).mask)

    def test_the_same_picture_gives_the_same_answer_whatever_came_between(self, segmenter: Segmenter) -> None:
        image = scene(segmenter.info.input_hw, 1)
        first = segmenter.segment(image).mask.copy()
        segmenter.segment(scene(segmenter.info.input_hw, 2))
        assert np.array_equal(segmenter.segment(image).mask, first)

    def test_two_of_it_give_the_same_answer(self, segmenter: Segmenter) -> None:
        other = self.open_segmenter()
        image = scene(segmenter.info.input_hw)
        assert np.array_equal(other.segment(image).mask, segmenter.segment(image).mask)
        other.close()

    def test_an_answer_is_not_overwritten_by_the_next(self, segmenter: Segmenter) -> None:
        answer = segmenter.segment(scene(segmenter.info.input_hw, 1), "prob")
        assert answer.prob is not None
        mask, prob = answer.mask.copy(), answer.prob.copy()
        segmenter.segment(scene(segmenter.info.input_hw, 2), "prob")
        assert np.array_equal(answer.mask, mask)
        assert np.array_equal(answer.prob, prob)

    def test_the_picture_is_left_as_it_was(self, segmenter: Segmenter) -> None:
        image = scene(segmenter.info.input_hw)
        before = image.copy()
        segmenter.segment(image, "prob")
        assert np.array_equal(image, before)

    def test_a_read_only_or_strided_picture_is_taken(self, segmenter: Segmenter) -> None:
        image = scene(segmenter.info.input_hw)
        expected = segmenter.segment(image).mask
        strided = np.repeat(image, 2, axis=1)[:, ::2]
        image.flags.writeable = False
        assert np.array_equal(segmenter.segment(image).mask, expected)
        assert np.array_equal(segmenter.segment(strided).mask, expected)

    @pytest.mark.parametrize("level", [0, 255])
    def test_a_picture_of_one_colour_is_answered(self, segmenter: Segmenter, level: int) -> None:
        image = np.full((*segmenter.info.input_hw, 3), level, np.uint8)
        prob = segmenter.segment(image, "prob").prob
        assert prob is not None
        assert np.isfinite(prob).all()

    def test_another_shape_or_type_is_refused(self, segmenter: Segmenter) -> None:
        height, width = segmenter.info.input_hw
        for image in (
            np.zeros((height + 1, width, 3), np.uint8),
            np.zeros((height, width), np.uint8),
            np.zeros((height, width, 4), np.uint8),
            np.zeros((height, width, 3), np.float32),
        ):
            with pytest.raises(ValueError, match="expected"):
                segmenter.segment(image)  # type: ignore[arg-type]

    def test_warming_up_changes_no_answer(self, segmenter: Segmenter) -> None:
        image = scene(segmenter.info.input_hw)
        before = segmenter.segment(image).mask
        segmenter.warm_up()
        assert np.array_equal(segmenter.segment(image).mask, before)

    def test_closing_twice_is_fine(self) -> None:
        segmenter = self.open_segmenter()
        segmenter.warm_up()
        segmenter.close()
        segmenter.close()
