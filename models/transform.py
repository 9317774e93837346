"""The one way from a picture to a network's input and back: crop, fit without distortion, undo it.

Separate because training, evaluation, preprocess and overlay must agree to the byte; each of them uses this
class and none resizes by itself. It knows pixels only: it neither finds the region (``field_of_view.py``) nor
scales to float (the network's first layer does).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError

from .segmenter import Mask, Prob

Image = npt.NDArray[np.uint8]
"""H × W × 3 in any colour order, or H × W; 0 to 255."""
Resizable = TypeVar("Resizable", npt.NDArray[np.uint8], npt.NDArray[np.float32])


class Rect(NamedTuple):
    """A rectangle in pixels; ``top + height`` and ``left + width`` are the first row and column past it."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """Its rows, to index an array with."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Its columns, to index an array with."""
        return slice(self.left, self.left + self.width)

    def iou(self, other: "Rect") -> float:
        """Intersection over union with another rectangle, 0 to 1."""
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        common = max(0, height) * max(0, width)
        union = self.height * self.width + other.height * other.width - common
        return common / union if union else 0.0


class PlacedMask(NamedTuple):
    """A picture's mask cut to a rectangle holding all of it: ``mask`` (bool), its corner at ``top, left``."""

    top: int
    left: int
    mask: Mask


@dataclass(frozen=True)
class Transform:
    """Letterbox of a region of the picture into the input, aspect ratio kept, centred, padded with 0.

    Attributes:
        source_hw: height and width of the picture.
        roi: region of the picture that the input shows.
        input_hw: height and width of the input.

    Raises:
        ConfigError: a size below 1, or a region that is not inside the picture.
    """

    source_hw: tuple[int, int]
    roi: Rect
    input_hw: tuple[int, int]

    def __post_init__(self) -> None:
        top, left, height, width = self.roi
        inside = (
            0 <= top <= top + height <= self.source_hw[0] and 0 <= left <= left + width <= self.source_hw[1]
        )
        if not inside or min(height, width, *self.input_hw) < 1:
            raise ConfigError(
                f"transform: region {tuple(self.roi)} to input {self.input_hw}; expected a region (top, left,"
                f" height, width) inside the picture {self.source_hw}, and neither region nor input empty"
            )

    @classmethod
    def of_picture(cls, source_hw: tuple[int, int], input_hw: tuple[int, int]) -> "Transform":
        """The transform that shows the whole picture."""
        return cls(source_hw, Rect(0, 0, *source_hw), input_hw)

    @classmethod
    def from_ints(cls, values: tuple[int, ...]) -> "Transform":
        """Undo ``to_ints``; raises ConfigError for anything else."""
        if len(values) != 8:
            raise ConfigError(f"transform: {len(values)} numbers; expected the 8 of Transform.to_ints")
        picture_h, picture_w, top, left, height, width, input_h, input_w = (int(value) for value in values)
        return cls((picture_h, picture_w), Rect(top, left, height, width), (input_h, input_w))

    def to_ints(self) -> tuple[int, ...]:
        """Eight numbers for the wire: picture's (h, w), region's (top, left, h, w), input's (h, w)."""
        return (*self.source_hw, *self.roi, *self.input_hw)

    @cached_property
    def content(self) -> Rect:
        """The part of the input that shows the region; the rest is padding."""
        input_h, input_w = self.input_hw
        scale = min(input_h / self.roi.height, input_w / self.roi.width)
        height = min(input_h, max(1, round(self.roi.height * scale)))
        width = min(input_w, max(1, round(self.roi.width * scale)))
        return Rect((input_h - height) // 2, (input_w - width) // 2, height, width)

    def forward(self, image: Image) -> Image:
        """The input, ``input_hw`` (× 3), uint8, colour order as given, a new array.

        Raises:
            ValueError: the picture is not uint8 of ``source_hw``.
        """
        self._check(image, self.source_hw, np.dtype(np.uint8))
        resized = self._fit(image[self.roi.rows, self.roi.columns])
        if self.content == (0, 0, *self.input_hw):
            return resized
        padded = np.zeros((*self.input_hw, *image.shape[2:]), np.uint8)
        padded[self.content.rows, self.content.columns] = resized
        return padded

    def forward_mask(self, mask: Mask) -> Mask:
        """A picture's mask (bool, ``source_hw``) at the input; True where half of the pixel is covered."""
        return self.forward(self._as_bytes(mask, self.source_hw)) > 127

    def inverse_mask(self, mask: Mask) -> Mask:
        """The input's mask (bool, ``input_hw``) on the picture: bool, ``source_hw``, False outside."""
        whole = np.zeros(self.source_hw, np.bool_)
        placed = self.inverse_mask_bounds(mask)
        height, width = placed.mask.shape
        whole[placed.top : placed.top + height, placed.left : placed.left + width] = placed.mask
        return whole

    def inverse_mask_bounds(self, mask: Mask) -> PlacedMask:
        """The same as ``inverse_mask``, but only the rectangle of the picture that holds all of the mask.

        An empty mask gives a 0 × 0 rectangle. The rectangle may be some pixels larger than the mask.

        Raises:
            ValueError: the mask is not bool of ``input_hw``.
        """
        inside = self._as_bytes(mask, self.input_hw)[self.content.rows, self.content.columns]
        left, top, width, height = cv2.boundingRect(np.ascontiguousarray(inside))
        if width == 0:
            return PlacedMask(0, 0, np.zeros((0, 0), np.bool_))
        rows = _grown_span(top, height, self.roi.height / self.content.height, self.roi.height)
        columns = _grown_span(left, width, self.roi.width / self.content.width, self.roi.width)
        # All of the region is resized, as a part would fall on other sub-pixels; 0.3 ms for 1920 × 1080.
        grown = np.ascontiguousarray(self._unfit(inside)[rows, columns])
        cv2.threshold(grown, 127, 1, cv2.THRESH_BINARY, dst=grown)
        # Bytes of 0 and 1 are a bool array already.
        return PlacedMask(self.roi.top + rows.start, self.roi.left + columns.start, grown.view(np.bool_))

    def inverse_prob(self, prob: Prob) -> Prob:
        """The input's probabilities (float32, ``input_hw``) on the picture: float32, 0 outside the region.

        Raises:
            ValueError: not float32 of ``input_hw``.
        """
        self._check(prob, self.input_hw, np.dtype(np.float32))
        whole = np.zeros(self.source_hw, np.float32)
        whole[self.roi.rows, self.roi.columns] = self._unfit(prob[self.content.rows, self.content.columns])
        return whole

    def _fit(self, region: Image) -> Image:
        return _resized(region, (self.content.height, self.content.width))

    def _unfit(self, content: Resizable) -> Resizable:
        return _resized(content, (self.roi.height, self.roi.width))

    def _as_bytes(self, mask: Mask, size_hw: tuple[int, int]) -> Image:
        self._check(mask, size_hw, np.dtype(np.bool_))
        return mask.view(np.uint8) * np.uint8(255)

    @staticmethod
    def _check(array: npt.NDArray[np.generic], size_hw: tuple[int, int], dtype: np.dtype[np.generic]) -> None:
        if array.shape[:2] != tuple(size_hw) or array.dtype != dtype:
            raise ValueError(
                f"array: {array.dtype} of {array.shape}; expected {dtype} of height and width {size_hw}"
            )


def _resized(array: Resizable, size_hw: tuple[int, int]) -> Resizable:
    """Area average where it shrinks in either direction (no aliasing), linear where it only grows."""
    shrinks = size_hw[0] < array.shape[0] or size_hw[1] < array.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(Resizable, cv2.resize(np.ascontiguousarray(array), size_hw[::-1], interpolation=method))


def _grown_span(start: int, length: int, scale: float, limit: int) -> slice:
    """The pixels of the region that cells ``start`` to ``start + length - 1`` of the input can reach."""
    return slice(max(0, int((start - 1) * scale)), min(limit, int((start + length + 1) * scale) + 1))
