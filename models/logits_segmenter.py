"""What the network's segmenters have in common: check the picture, run, threshold.

A runtime subclasses it, opens its model in the constructor and gives ``logits``. The sigmoid is only
computed where probabilities are asked for: a logit above 0 is a probability above one half. Which marks count is
said in ``postprocess.py``. It picks no model file.
"""

import os
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ModelError

from .postprocess import SURE_PROB, sure_logit, sure_marks
from .segmenter import ImageRgb, Output, Prob, Segmentation, SegmenterInfo

Logits = npt.NDArray[np.float32]
"""H × W, any number; above 0 is polyp."""


class LogitsSegmenter(ABC):
    """A segmenter of the protocol in ``segmenter.py`` around a network that gives logits."""

    info: SegmenterInfo

    def __init__(self, sure_prob: float = SURE_PROB) -> None:
        """Keep marks of which some pixel reaches ``sure_prob``; raises ConfigError unless that is in [0.5, 1)."""
        self._sure_logit = np.float32(sure_logit(sure_prob))

    @abstractmethod
    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on a contiguous picture; the array may be the runtime's own."""

    def warm_up(self) -> None:
        """Run three times on a grey picture: the first pays for buffers and kernels."""
        grey = np.full((*self.info.input_hw, 3), 128, np.uint8)
        for _ in range(3):
            self.logits(grey)

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        """Segment one picture (uint8, ``info.input_hw`` × 3, RGB).

        Raises:
            ValueError: another shape or type.
            ModelError: the runtime failed.
        """
        require_image(image_rgb, self.info.input_hw)
        logits = self.logits(np.ascontiguousarray(image_rgb))
        every = logits > 0
        mask = sure_marks(every, logits >= self._sure_logit)
        if output == "mask":
            return Segmentation(mask, None)
        prob = prob_of(logits)
        prob[every & ~mask] = 0.5  # a mark that does not count is none in the probabilities either
        return Segmentation(mask, prob)

    @abstractmethod
    def close(self) -> None:
        """Give back what the runtime holds; may be called twice."""


def require_image(image_rgb: ImageRgb, input_hw: tuple[int, int]) -> None:
    """Raise ValueError unless a picture is uint8, ``input_hw`` × 3."""
    if image_rgb.shape != (*input_hw, 3) or image_rgb.dtype != np.uint8:
        height, width = input_hw
        raise ValueError(f"image: {image_rgb.dtype} {image_rgb.shape}; expected uint8 ({height}, {width}, 3)")


JUST_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))


def prob_of(logits: Logits) -> Prob:
    """Sigmoid of logits, without overflow, and above 0.5 wherever the logit is above 0, however little."""
    small = np.exp(-np.abs(logits))
    above = np.maximum(1 / (1 + small), JUST_ABOVE_HALF)
    return np.where(logits > 0, above, small / (1 + small)).astype(np.float32)


def require_signature(
    source: object,
    inputs: list[tuple[str, list[int], str]],
    outputs: list[tuple[str, list[int], str]],
    input_hw: tuple[int, int] | None,
) -> tuple[int, int]:
    """Check what a model file takes and gives; returns height and width of the input in pixels.

    Args:
        source: the file, for the message.
        inputs: name, shape and type (uint8, float32) of each.
        outputs: the same.
        input_hw: size that is wanted, or None for any.

    Raises:
        ModelError: anything but one uint8 input 1 × H × W × 3 and one float32 output 1 × H × W × 1.
    """
    height, width = (
        (inputs[0][1][1], inputs[0][1][2]) if len(inputs) == 1 and len(inputs[0][1]) == 4 else (0, 0)
    )
    wanted_in, wanted_out = ([1, height, width, 3], "uint8"), ([1, height, width, 1], "float32")
    fits = [each[1:] for each in inputs] == [wanted_in] and [each[1:] for each in outputs] == [wanted_out]
    if not fits or (input_hw is not None and (height, width) != tuple(input_hw)):
        size = "H × W" if input_hw is None else f"{input_hw[0]} × {input_hw[1]}"
        raise ModelError(
            f"model: {source}; takes {inputs}, gives {outputs}; expected uint8 1 × {size} × 3 to float32"
            f" 1 × {size} × 1. Try: a file of endostream export"
        )
    return height, width


def default_threads() -> int:
    """Half of the cores this process may use, 1 to 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, max(1, cores // 2))
