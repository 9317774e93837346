"""What training minimises: the paper's soft Dice of a batch, ours, and the distance to a teacher.

Written in ``keras.ops``, so any backend runs it. Logits are float32 N × H × W × 1; targets are uint8 N × H ×
W × 2, the mask (0 or 255) and the pixel's weight in 255ths (``batches.boundary_weight``). Separate from
``train.py`` so that each can be checked on numbers worked out by hand.
"""

from typing import Any

from keras import ops

SMOOTH = 1.0
"""Added above and below every Dice, as in the paper authors' code."""


def mask_and_weight(target: Any, factor: int = 1) -> tuple[Any, Any]:
    """The mask in [0, 1] and the weight in (0, 1], float32 N × h × w × 1, averaged over ``factor`` × ``factor``."""
    scaled = ops.cast(target, "float32") / 255.0
    if factor > 1:
        scaled = ops.average_pool(scaled, factor, strides=factor, padding="valid")
    return scaled[..., :1], scaled[..., 1:]


def soft_dice_batch(logits: Any, mask: Any) -> Any:
    """The paper's Dice: (2 Σ p y + 1) / (Σ p + Σ y + 1) over all pixels of the batch; a scalar."""
    prob = ops.sigmoid(logits)
    both = ops.sum(prob * mask)
    return (2.0 * both + SMOOTH) / (ops.sum(prob) + ops.sum(mask) + SMOOTH)


def dice_loss(logits: Any, mask: Any) -> Any:
    """The paper's loss: 1 − soft Dice of the batch; a scalar."""
    return 1.0 - soft_dice_batch(logits, mask)


def cross_entropy(logits: Any, prob: Any) -> Any:
    """Binary cross-entropy of each pixel against a probability, safe for logits of any size."""
    return ops.maximum(logits, 0.0) - logits * prob + ops.log1p(ops.exp(-ops.abs(logits)))


def structure_loss(logits: Any, mask: Any, weight: Any, dice_share: float) -> Any:
    """Weighted cross-entropy and weighted Dice of each picture, then the mean; a scalar.

    The idea is PraNet's (Fan et al. 2020), with Dice in place of IoU. A picture without polyp has no Dice to
    speak of and counts by its cross-entropy alone.
    """
    axes = (1, 2, 3)
    entropy = ops.sum(weight * cross_entropy(logits, mask), axes) / ops.sum(weight, axes)
    prob = ops.sigmoid(logits)
    both = ops.sum(weight * prob * mask, axes)
    whole = ops.sum(weight * (prob + mask), axes)
    dice = 1.0 - (2.0 * both + SMOOTH) / (whole + SMOOTH)
    share = dice_share * ops.cast(ops.max(mask, axes) > 0, "float32")
    return ops.mean((1.0 - share) * entropy + share * dice)


def teacher_loss(logits: Any, teacher_logits: Any) -> Any:
    """Mean cross-entropy against the teacher's probabilities, less the teacher's own entropy; 0 where they agree."""
    prob = ops.stop_gradient(ops.sigmoid(teacher_logits))
    own = cross_entropy(ops.stop_gradient(teacher_logits), prob)
    return ops.mean(cross_entropy(logits, prob) - own)
