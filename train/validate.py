"""Measure a network on the validation pictures during training: quick, at the network's input size.

Separate from ``evaluate.py``, which takes any segmenter, works at the picture's own size and reports
everything: this one only has to rank epochs of one input size, several hundred times. The letterbox's padding
counts as background here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from endostream.models.metrics import count, soft_sums
from endostream.models.metrics_summary import SOFT_BATCH, dice_soft_batch, miou_two_class, pooled
from endostream.models.transform import Transform

from .augment import MaskBytes
from .batches import boundary_weight
from .checkpoint import Row
from .kvasir import Pair, read_image, read_mask
from .losses import dice_loss, mask_and_weight, structure_loss
from .recipe import LossRecipe


class Validator:
    """The validation pictures at a network's input size, through the transform of the live path."""

    def __init__(self, pairs: Sequence[Pair], input_hw: tuple[int, int], loss: LossRecipe) -> None:
        self._loss = loss
        prepared = [_prepared(pair, input_hw) for pair in pairs]
        self._inputs = np.stack([image for image, _ in prepared])
        self._masks = [mask for _, mask in prepared]

    def measure(self, network: Any) -> Row:
        """The columns ``val_…`` of the learning curve; ``network`` goes from uint8 pictures to logits."""
        counts, sums, losses = [], [], []
        for start in range(0, len(self._masks), SOFT_BATCH):
            logits = np.asarray(
                network.predict_on_batch(self._inputs[start : start + SOFT_BATCH]), np.float32
            )
            masks = self._masks[start : start + SOFT_BATCH]
            losses.append(self._loss_of(logits, masks) * len(masks))
            for one, mask in zip(logits[..., 0], masks, strict=True):
                prob = 1 / (1 + np.exp(-one))
                counts.append(count(one > 0, mask))
                sums.append(soft_sums(prob, mask))
        return {
            "val_loss": sum(losses) / len(self._masks),
            "val_dice_soft_batch": dice_soft_batch(sums),
            "val_dice_per_image": float(np.mean([each.dice for each in counts])),
            "val_iou_per_image": float(np.mean([each.iou for each in counts])),
            "val_miou_two_class_pooled": miou_two_class(pooled(counts)),
        }

    def _loss_of(self, logits: npt.NDArray[np.float32], masks: Sequence[npt.NDArray[np.bool_]]) -> float:
        """The recipe's loss without teacher and auxiliary outputs."""
        mask, weight = mask_and_weight(np.stack([self._target(mask) for mask in masks]))
        if self._loss.name == "dice":
            return float(dice_loss(logits, mask))
        return float(structure_loss(logits, mask, weight, self._loss.dice_share))

    def _target(self, mask: npt.NDArray[np.bool_]) -> MaskBytes:
        area = mask.view(np.uint8) * np.uint8(255)
        return np.dstack([area, boundary_weight(area, self._loss.boundary_weight)])


def _prepared(pair: Pair, input_hw: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    image, mask = read_image(pair.image), read_mask(pair.mask)
    transform = Transform.of_picture((mask.shape[0], mask.shape[1]), input_hw)
    return transform.forward(image), transform.forward_mask(mask)
