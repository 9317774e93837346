"""A small data set in Kvasir-SEG's layout, drawn by rule: bright discs on reddish noise, JPEG as the real one."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


def write_data(root: Path, count: int, size_hw: tuple[int, int] = (48, 64)) -> Path:
    """Write ``count`` pairs named p00, p01, … under ``root``, which is returned."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        image, mask = disc_picture(index, size_hw)
        cv2.imwrite(str(root / "images" / f"p{index:02}.jpg"), image)
        cv2.imwrite(str(root / "masks" / f"p{index:02}.jpg"), mask)
    return root


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Makes a data set of ``count`` pairs, see ``write_data``."""

    def make(count: int = 10, size_hw: tuple[int, int] = (48, 64), name: str = "data") -> Path:
        return write_data(tmp_path / name, count, size_hw)

    return make


TINY = "resunet-tiny"
TINY_WIDTHS = (8, 9, 11)


@pytest.fixture(scope="module")
def tiny_preset() -> Iterator[str]:
    """A preset of 10 k parameters at 64 × 64, registered for one module; skips where Keras is not installed."""
    resunet = import_keras("endostream.models.resunet")
    config = resunet.ResUNetConfig(TINY, (64, 64), TINY_WIDTHS, context_filters=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resunet.PRESETS, TINY, config)
        yield TINY


def import_keras(module: str) -> Any:
    """``module`` of ours, on the first Keras backend there is; the test is skipped, naming it, without Keras."""
    from endostream.configs.errors import ModelError
    from endostream.train.commands import choose_backend

    try:
        choose_backend(threads=1)
    except ModelError as error:
        pytest.skip(str(error))
    return importlib.import_module(module)
