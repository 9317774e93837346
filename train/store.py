"""The training pictures, decoded once, shrunk to what training needs, in one file that all workers map.

A picture larger than the network's input is of no use at its full size, and decoding it each epoch costs
more than augmenting it. Separate from ``batches.py`` so that a worker is handed a path and a few numbers
instead of pictures. The file is scratch: it is written anew by every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .augment import Sample
from .kvasir import Pair, read_image, read_mask


@dataclass(frozen=True)
class PictureStore:
    """Pictures by index: in ``path`` lies for each its H × W × 3 RGB and then its H × W mask, uint8.

    Attributes:
        path: the file.
        sizes_hw: height and width of each.
    """

    path: Path
    sizes_hw: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.sizes_hw)

    def __getitem__(self, index: int) -> Sample:
        """The sample ``index``: views into the file, read-only."""
        height, width = self.sizes_hw[index]
        start, pixels = self._starts[index], height * width
        image = self._bytes[start : start + 3 * pixels].reshape(height, width, 3)
        mask = self._bytes[start + 3 * pixels : start + 4 * pixels].reshape(height, width)
        return Sample(image, mask)

    @cached_property
    def _starts(self) -> list[int]:
        ends = np.cumsum([4 * height * width for height, width in self.sizes_hw])
        return [0, *(int(end) for end in ends[:-1])]

    @cached_property
    def _bytes(self) -> npt.NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, mode="r")

    def __getstate__(self) -> dict[str, object]:
        """What goes to a worker: not the pictures."""
        return {"path": self.path, "sizes_hw": self.sizes_hw}


def store_from_pairs(pairs: Sequence[Pair], path: Path, largest_side_px: int) -> PictureStore:
    """Decode ``pairs`` in their order into ``path``, no side longer than ``largest_side_px``."""
    sizes: list[tuple[int, int]] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for pair in pairs:
            image, mask = _shrunk(read_image(pair.image), read_mask(pair.mask), largest_side_px)
            sizes.append((mask.shape[0], mask.shape[1]))
            file.write(image.tobytes())
            file.write(mask.tobytes())
    return PictureStore(path, tuple(sizes))


def _shrunk(
    image_rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], largest_side_px: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    area = mask.view(np.uint8) * np.uint8(255)
    scale = largest_side_px / max(area.shape)
    if scale >= 1:
        return image_rgb, area
    size_wh = (max(1, round(area.shape[1] * scale)), max(1, round(area.shape[0] * scale)))
    image = cv2.resize(image_rgb, size_wh, interpolation=cv2.INTER_AREA)
    area = np.asarray(cv2.resize(area, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(image, np.uint8), np.where(area > 127, np.uint8(255), np.uint8(0))
