"""Each metric on pictures small enough to count by eye."""

import numpy as np
import pytest

from endostream.models.metrics import (
    BoxCorners,
    Counts,
    ImageScore,
    SoftSums,
    boundary_f,
    box_iou,
    boxes_of,
    count,
    dice_iou_256,
    match_boxes,
    score_image,
    soft_sums,
)
from endostream.models.metrics_summary import (
    DEFINITIONS,
    bootstrap_interval,
    dice_soft_batch,
    miou_two_class,
    pooled,
    summary,
    worst,
)

TRUTH = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.bool_)
MASK = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.bool_)
EMPTY = np.zeros((4, 4), np.bool_)


def prob_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.float32(0.9), np.float32(0.1))


def test_counts_of_a_mask_add_up_to_the_picture() -> None:
    counts = count(MASK, TRUTH)
    assert counts == Counts(tp=2, fp=1, fn=2, tn=11)
    assert sum(counts) == TRUTH.size


def test_ratios_follow_their_definitions() -> None:
    counts = count(MASK, TRUTH)
    assert counts.dice == pytest.approx(4 / 7)
    assert counts.iou == pytest.approx(2 / 5)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(1 / 2)
    assert counts.specificity == pytest.approx(11 / 12)
    assert counts.accuracy == pytest.approx(13 / 16)
    assert counts.iou == pytest.approx(counts.dice / (2 - counts.dice))


@pytest.mark.parametrize(
    ("mask", "truth", "dice"),
    [(EMPTY, EMPTY, 1.0), (MASK, EMPTY, 0.0), (EMPTY, TRUTH, 0.0), (TRUTH, TRUTH, 1.0)],
)
def test_empty_masks_have_a_defined_dice_and_iou(mask: np.ndarray, truth: np.ndarray, dice: float) -> None:
    counts = count(mask, truth)
    assert (counts.dice, counts.iou) == (dice, dice)


def test_precision_of_nothing_is_right_only_where_nothing_is() -> None:
    assert count(EMPTY, EMPTY).precision == 1.0
    assert count(EMPTY, TRUTH).precision == 0.0
    assert count(EMPTY, EMPTY).recall is None
    assert count(EMPTY, ~EMPTY).specificity is None


def test_per_image_and_pooled_dice_differ_where_sizes_do() -> None:
    scores = [score_image("a", prob_of(TRUTH), TRUTH), score_image("b", prob_of(MASK), EMPTY)]
    report = summary(scores)
    assert report["dice_per_image"] == pytest.approx((1.0 + 0.0) / 2)
    assert report["dice_pooled"] == pytest.approx(8 / (8 + 3))
    assert report["iou_pooled"] == pytest.approx(4 / 7)


def test_two_class_miou_is_the_mean_of_polyp_and_background() -> None:
    counts = pooled([count(MASK, TRUTH), count(TRUTH, TRUTH)])
    assert counts == Counts(6, 1, 2, 23)
    assert miou_two_class(counts) == pytest.approx((6 / 9 + 23 / 26) / 2)


def test_miou_over_thresholds_averages_the_paper_s_ten() -> None:
    prob = np.where(TRUTH, np.float32(0.72), np.float32(0.1))  # right up to 0.70, empty from 0.75 on
    report = summary([score_image("a", prob, TRUTH)])
    empty = (0 + 12 / 16) / 2
    assert report["miou_two_class_thresholds"] == pytest.approx((5 * 1.0 + 5 * empty) / 10)
    assert report["miou_two_class_pooled"] == pytest.approx(1.0)


def test_soft_dice_pools_a_batch_and_averages_batches() -> None:
    one, two = SoftSums(3.0, 4.0, 5.0), SoftSums(0.0, 0.0, 0.0)
    assert dice_soft_batch([one, two], batch=2) == pytest.approx(7 / 10)
    assert dice_soft_batch([one, two], batch=1) == pytest.approx((7 / 10 + 1) / 2)
    assert dice_soft_batch([one, None]) is None


def test_soft_sums_are_of_the_probabilities_as_they_are() -> None:
    prob = np.full((4, 4), 0.25, np.float32)
    assert soft_sums(prob, TRUTH) == SoftSums(1.0, 4.0, 4.0)


def test_pranet_s_mdice_matches_its_loop_over_thresholds() -> None:
    prob = np.random.default_rng(0).random((12, 9)).astype(np.float32)
    truth = prob > 0.6
    truth[0] = ~truth[0]
    scaled = np.rint((prob - prob.min()) / (prob.max() - prob.min()) * 255)
    dice, iou = [], []
    for threshold in range(256):
        hit = np.sum((scaled >= threshold) & truth)
        dice.append(2 * hit / (np.sum(scaled >= threshold) + truth.sum()))
        iou.append(hit / np.sum((scaled >= threshold) | truth))
    assert dice_iou_256(prob, truth) == pytest.approx((np.mean(dice), np.mean(iou)))


def test_boundary_f_forgives_a_pixel_and_not_ten() -> None:
    truth = np.zeros((60, 80), np.bool_)  # the diagonal is 100 px, the tolerance 1 px
    truth[20:40, 20:40] = True
    near = np.roll(truth, 1, axis=1)
    far = np.roll(truth, 30, axis=1)
    assert boundary_f(truth, truth) == 1.0
    assert boundary_f(near, truth) == 1.0
    assert boundary_f(far, truth) == 0.0
    assert boundary_f(np.zeros_like(truth), truth) == 0.0
    assert boundary_f(np.zeros_like(truth), np.zeros_like(truth)) == 1.0


def test_boxes_are_those_of_the_components_largest_first() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[1:3, 1:3] = True
    mask[10:18, 5:9] = True
    assert boxes_of(mask) == [BoxCorners(5, 10, 9, 18), BoxCorners(1, 1, 3, 3)]


def test_specks_are_no_detections() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[0, 0:9] = True
    assert boxes_of(mask) == []


def test_a_box_is_matched_once_at_iou_one_half() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[0:10, 0:10] = True
    half, same = BoxCorners(0, 0, 10, 5), BoxCorners(0, 0, 10, 10)
    assert box_iou(same, half) == 0.5
    assert match_boxes(mask, [half]) == (1, 0, 0)
    assert match_boxes(mask, [same, half]) == (1, 0, 1)
    assert match_boxes(mask, [BoxCorners(12, 12, 18, 18)]) == (0, 1, 1)


def test_a_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the same size"):
        score_image("x", np.zeros((4, 5), np.float32), TRUTH)


def test_the_bootstrap_is_seeded_and_holds_the_mean() -> None:
    values = np.linspace(0, 1, 50)
    low, high = bootstrap_interval(values, seed=3)
    assert (low, high) == bootstrap_interval(values, seed=3)
    assert low < values.mean() < high
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)


def test_the_summary_has_every_defined_metric_and_names_empty_pictures() -> None:
    scores = [
        score_image("a", prob_of(TRUTH), TRUTH, soft=SoftSums(1, 1, 1), boxes=[BoxCorners(0, 0, 2, 2)]),
        score_image("b", prob_of(EMPTY), EMPTY, soft=SoftSums(0, 0, 0), boxes=[]),
        score_image("c", prob_of(MASK), EMPTY, soft=SoftSums(0, 1, 0), boxes=[]),
    ]
    report = summary(scores)
    assert set(DEFINITIONS) <= set(report)
    assert report["empty_truth"] == {"images": 2, "share_left_clean": 0.5}
    assert report["box_precision"] == 0.5
    assert report["box_recall"] == 1.0
    assert report["recall_per_image"] == 1.0
    assert report["dice_per_image_share_under_0_5"] == pytest.approx(1 / 3)


def test_worst_lists_the_lowest_dice_first() -> None:
    scores: list[ImageScore] = [
        score_image("good", prob_of(TRUTH), TRUTH),
        score_image("bad", prob_of(EMPTY), TRUTH),
        score_image("middling", prob_of(MASK), TRUTH),
    ]
    assert [score.name for score in worst(scores, 2)] == ["bad", "middling"]


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        summary([])
