"""The losses on numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest

from .conftest import import_keras

LN2 = float(np.log(2))


@pytest.fixture(scope="module")
def losses() -> Any:
    return import_keras("endostream.train.losses")


def plane(values: list[list[float]]) -> np.ndarray:
    return np.array(values, np.float32)[None, :, :, None]


def test_the_soft_dice_of_a_batch_is_the_paper_s(losses: Any) -> None:
    logits = plane([[0.0, 0.0], [0.0, 0.0]])  # probability one half everywhere
    mask = plane([[1.0, 0.0], [0.0, 0.0]])
    expected = (2 * 0.5 + 1) / (2.0 + 1.0 + 1)
    assert float(losses.soft_dice_batch(logits, mask)) == pytest.approx(expected)
    assert float(losses.dice_loss(logits, mask)) == pytest.approx(1 - expected)


def test_cross_entropy_is_right_in_the_middle_and_finite_at_the_ends(losses: Any) -> None:
    logits = plane([[0.0, 200.0], [-200.0, 200.0]])
    values = np.asarray(losses.cross_entropy(logits, plane([[1.0, 1.0], [0.0, 0.0]])))[0, :, :, 0]
    assert values == pytest.approx(np.array([[LN2, 0.0], [0.0, 200.0]]), abs=1e-5)


def test_the_structure_loss_weighs_cross_entropy_and_dice(losses: Any) -> None:
    logits, mask = plane([[0.0, 0.0]]), plane([[1.0, 0.0]])
    weight = plane([[0.75, 0.25]])
    dice = 1 - (2 * 0.75 * 0.5 + 1) / (0.75 * 1.5 + 0.25 * 0.5 + 1)
    value = float(losses.structure_loss(logits, mask, weight, 0.5))
    assert value == pytest.approx(0.5 * LN2 + 0.5 * dice)


def test_a_picture_without_polyp_counts_by_its_cross_entropy_alone(losses: Any) -> None:
    logits, empty, weight = plane([[0.0, 0.0]]), plane([[0.0, 0.0]]), plane([[1.0, 1.0]])
    assert float(losses.structure_loss(logits, empty, weight, 0.5)) == pytest.approx(LN2)


def test_a_teacher_that_agrees_costs_nothing(losses: Any) -> None:
    logits = plane([[3.0, -2.0], [0.5, -40.0]])
    assert float(losses.teacher_loss(logits, logits)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.teacher_loss(logits, -logits)) > 1


def test_targets_become_shares_and_shrink_by_averaging(losses: Any) -> None:
    target = np.zeros((1, 2, 2, 2), np.uint8)
    target[0, 0, 0] = (255, 51)
    mask, weight = losses.mask_and_weight(target, 2)
    assert np.asarray(mask).ravel().tolist() == pytest.approx([0.25])
    assert np.asarray(weight).ravel().tolist() == pytest.approx([0.05])
