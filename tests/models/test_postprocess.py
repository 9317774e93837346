"""Which marks count, on masks one can check by eye."""

import numpy as np
import numpy.typing as npt
import pytest

from endostream.configs.errors import ConfigError
from endostream.models.postprocess import sure_logit, sure_marks


def grid(*rows: str) -> npt.NDArray[np.int64]:
    """0 nothing, 1 marked, 2 marked and sure, 3 sure but not marked."""
    return np.array([[int(cell) for cell in row] for row in rows])


def kept(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What stays, as 1."""
    return sure_marks((cells == 1) | (cells == 2), cells >= 2).astype(int)


def test_a_part_with_a_sure_pixel_stays_whole_and_one_without_goes() -> None:
    assert kept(grid("11000", "12011", "00011")).tolist() == grid("11000", "11000", "00000").tolist()


def test_parts_that_touch_at_a_corner_are_one() -> None:
    assert kept(grid("100", "020", "001")).tolist() == grid("100", "010", "001").tolist()


def test_being_sure_beside_a_mark_does_not_count() -> None:
    assert not kept(grid("130", "130")).any()


def test_an_empty_mask_and_a_mask_that_is_sure_everywhere_come_back_themselves() -> None:
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert sure_marks(empty, full) is empty
    assert sure_marks(full, full) is full


def test_more_than_255_parts_are_told_apart() -> None:
    mask = np.zeros((64, 64), bool)
    mask[::2, ::2] = True
    sure = np.zeros_like(mask)
    sure[62, 62] = True
    assert np.argwhere(sure_marks(mask, sure)).tolist() == [[62, 62]]


def test_one_half_keeps_every_mark_and_what_is_no_probability_is_refused() -> None:
    assert sure_logit(0.5) == 0.0
    assert sure_logit(0.95) == pytest.approx(2.944439)
    for bad in (0.2, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="sure_prob"):
            sure_logit(bad)
