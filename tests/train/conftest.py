"""A small data set in Kvasir-SEG's layout, drawn by rule: bright discs on reddish noise, JPEG as the real one."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

MakeData = Callable[..., Path]


def disc_picture(index: int, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Picture ``index`` (uint8, H × W × 3, BGR) and its mask (uint8, 0 or 255)."""
    height, width = size_hw
    random = np.random.default_rng(index)
    image = np.array([60, 80, 150]) + random.integers(-12, 12, (height, width, 3))
    rows, columns = np.ogrid[:height, :width]
    centre = random.uniform(0.3, 0.7, 2) * (height, width)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.2 * min(size_hw)) ** 2
    image[disc] += 70
    return image.clip(0, 255).astype(np.uint8), disc.astype(np.uint8) * np.uint8(255)


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Makes a data set of ``count`` pairs named p00, p01, … and returns its folder."""

    def make(count: int = 10, size_hw: tuple[int, int] = (48, 64), name: str = "data") -> Path:
        root = tmp_path / name
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for index in range(count):
            image, mask = disc_picture(index, size_hw)
            cv2.imwrite(str(root / "images" / f"p{index:02}.jpg"), image)
            cv2.imwrite(str(root / "masks" / f"p{index:02}.jpg"), mask)
        return root

    return make
