"""From the scores of single pictures to the numbers of a report: means, pooled values, intervals, and their
meaning.

Separate from ``metrics.py``, which counts one picture, so that what a mean is taken over stands in one place.
It formats and prints nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .metrics import BOX_IOU, MIOU_THRESHOLDS, Counts, ImageScore, SoftSums

SOFT_BATCH = 8
"""Pictures in a batch of ``dice_soft_batch``: the Kvasir-SEG paper's batch size."""
SOFT_SMOOTH = 1.0
"""Added above and below the fraction in the paper authors' Dice."""
BOOTSTRAP_DRAWS = 2000

DEFINITIONS: dict[str, str] = {
    "dice_per_image": "2TP/(2TP+FP+FN) of each picture at its own size at probability > 0.5, then the mean",
    "iou_per_image": "TP/(TP+FP+FN) of each picture at its own size at probability > 0.5, then the mean",
    "dice_soft_batch": "the Kvasir-SEG paper's Dice: (2 sum p y + 1)/(sum p + sum y + 1) over the pixels of a"
    " batch of 8 in list order, not thresholded, at the network's input size, then the mean over batches",
    "miou_two_class_pooled": "mean of the IoU of polyp and of background, over the pixels of all pictures",
    "miou_two_class_thresholds": "the Kvasir-SEG paper's mIoU: miou_two_class_pooled averaged over the"
    " thresholds 0.50, 0.55, ... 0.95",
    "dice_pooled": "2TP/(2TP+FP+FN) with TP, FP, FN summed over all pictures first (DUCK-Net's)",
    "iou_pooled": "TP/(TP+FP+FN) with TP, FP, FN summed over all pictures first",
    "mdice_256": "PraNet's mDice: each picture min-max normalised, averaged over 256 thresholds, then the"
    " mean",
    "miou_256": "PraNet's mIoU: the same of the IoU",
    "precision_per_image": "TP/(TP+FP) of each picture, then the mean; nothing predicted counts 1 if nothing"
    " is there, else 0",
    "recall_per_image": "TP/(TP+FN) of each picture that has a polyp, then the mean",
    "specificity_per_image": "TN/(TN+FP) of each picture, then the mean",
    "accuracy_per_image": "share of pixels that are right in each picture, then the mean",
    "boundary_f_per_image": "F measure of the contours within 0.8 % of the diagonal, then the mean (DAVIS)",
    "box_precision": f"predicted boxes that match one of the data set at IoU >= {BOX_IOU}, of all predicted",
    "box_recall": f"boxes of the data set that are matched at IoU >= {BOX_IOU}, of all of them",
}
"""What each number means, for reports and the documentation."""


def summary(scores: Sequence[ImageScore], *, seed: int = 0) -> dict[str, Any]:
    """Every metric of a set of pictures, by the names of DEFINITIONS, with intervals, spread and empty
    pictures.

    Args:
        scores: of each picture, in list order (the batches of ``dice_soft_batch`` follow it).
        seed: of the bootstrap.

    Returns:
        A dictionary ready for JSON; a metric that cannot be had (no boxes, no soft sums) is None.

    Raises:
        ValueError: no scores.
    """
    if not scores:
        raise ValueError("scores: none; expected at least one picture")
    dice = np.array([score.counts.dice for score in scores])
    iou = np.array([score.counts.iou for score in scores])
    return {
        "images": len(scores),
        "dice_per_image": float(dice.mean()),
        "iou_per_image": float(iou.mean()),
        "dice_per_image_ci95": bootstrap_interval(dice, seed=seed),
        "iou_per_image_ci95": bootstrap_interval(iou, seed=seed),
        **_spread(dice),
        **_pooled(scores),
        "dice_soft_batch": dice_soft_batch([score.soft for score in scores]),
        "mdice_256": _mean(score.mdice_256 for score in scores),
        "miou_256": _mean(score.miou_256 for score in scores),
        "precision_per_image": _mean(score.counts.precision for score in scores),
        "recall_per_image": _mean(score.counts.recall for score in scores),
        "specificity_per_image": _mean(score.counts.specificity for score in scores),
        "accuracy_per_image": _mean(score.counts.accuracy for score in scores),
        "boundary_f_per_image": _mean(score.boundary_f for score in scores),
        **_boxes(scores),
        "empty_truth": _empty(scores),
    }


def pooled(counts: Sequence[Counts]) -> Counts:
    """Counts of many pictures added up."""
    return Counts(*(sum(column) for column in zip(*counts, strict=True)))


def miou_two_class(counts: Counts) -> float:
    """Mean of the IoU of polyp and of background."""
    return (counts.iou + counts.iou_background) / 2


def dice_soft_batch(sums: Sequence[SoftSums | None], batch: int = SOFT_BATCH) -> float | None:
    """The paper's Dice over batches in the order given; None unless every picture has its sums."""
    known = [one for one in sums if one is not None]
    if not known or len(known) != len(sums):
        return None
    values = []
    for start in range(0, len(known), batch):
        intersection, prob, truth = np.sum(known[start : start + batch], axis=0)
        values.append((2 * intersection + SOFT_SMOOTH) / (prob + truth + SOFT_SMOOTH))
    return float(np.mean(values))


def bootstrap_interval(values: npt.NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean: percentiles of the means of BOOTSTRAP_DRAWS draws with replacement."""
    random = np.random.default_rng(seed)
    draws = random.integers(len(values), size=(BOOTSTRAP_DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _spread(dice: npt.NDArray[np.float64]) -> dict[str, float]:
    return {
        "dice_per_image_median": float(np.median(dice)),
        "dice_per_image_p5": float(np.percentile(dice, 5)),
        "dice_per_image_share_under_0_5": float(np.mean(dice < 0.5)),
    }


def _pooled(scores: Sequence[ImageScore]) -> dict[str, float]:
    whole = pooled([score.counts for score in scores])
    at = [pooled([score.threshold_counts[i] for score in scores]) for i in range(len(MIOU_THRESHOLDS))]
    return {
        "dice_pooled": whole.dice,
        "iou_pooled": whole.iou,
        "miou_two_class_pooled": miou_two_class(whole),
        "miou_two_class_thresholds": float(np.mean([miou_two_class(counts) for counts in at])),
    }


def _boxes(scores: Sequence[ImageScore]) -> dict[str, float | None]:
    known = [score.boxes for score in scores if score.boxes is not None]
    if not known:
        return {"box_precision": None, "box_recall": None}
    tp, fp, fn = (sum(column) for column in zip(*known, strict=True))
    return {"box_precision": _ratio(tp, tp + fp), "box_recall": _ratio(tp, tp + fn)}


def _empty(scores: Sequence[ImageScore]) -> dict[str, float | int | None]:
    """Pictures without a polyp, and the share of them where nothing was marked."""
    clean = [score.counts.fp == 0 for score in scores if score.counts.tp + score.counts.fn == 0]
    return {"images": len(clean), "share_left_clean": _ratio(sum(clean), len(clean))}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def worst(
    scores: Sequence[ImageScore],
    count: int,
    by: Callable[[ImageScore], float] = lambda score: score.counts.dice,
) -> list[ImageScore]:
    """The ``count`` pictures with the lowest value, worst first."""
    return sorted(scores, key=by)[:count]
