"""Pictures for people: the worst cases on one sheet, and the Kvasir-SEG paper's Fig. 3.

Separate from ``evaluate.py``, which makes numbers. Drawn with OpenCV alone; nothing here is scored.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError, SinkError
from endostream.models.metrics import ImageScore
from endostream.models.metrics_summary import worst
from endostream.models.segmenter import ImageRgb, Mask, Segmenter

from .evaluate import predict_mask
from .kvasir import PICTURE_SUFFIXES, Pair, read_image, read_mask

ImageBgr = npt.NDArray[np.uint8]
TILE_WH = (320, 272)
TRUTH_BGR = (80, 220, 60)
PREDICTED_BGR = (40, 160, 255)
SHEET_COLUMNS = 4


def worst_sheet(
    segmenter: Segmenter, scores: Sequence[ImageScore], pairs: Sequence[Pair], count: int
) -> ImageBgr:
    """The ``count`` pictures with the lowest Dice, truth in green, prediction in orange, worst first."""
    by_name = {pair.name: pair for pair in pairs}
    tiles = []
    for score in worst(scores, count):
        pair = by_name[score.name]
        image = read_image(pair.image)
        tile = _outlined(image, read_mask(pair.mask), predict_mask(segmenter, image))
        tiles.append(_captioned(tile, f"{score.counts.dice:.3f}  {score.name}"))
    return _grid(tiles, SHEET_COLUMNS)


def comparison(pairs: Sequence[Pair], segmenters: Sequence[Segmenter]) -> ImageBgr:
    """Fig. 3 of the paper: a row for each pair, with picture, truth and the mask of each segmenter."""
    rows = []
    for pair in pairs:
        image = read_image(pair.image)
        cells = [(image[..., ::-1], "image"), (_white(read_mask(pair.mask)), "ground truth")]
        cells += [(_white(predict_mask(each, image)), each.info.name) for each in segmenters]
        rows.append(np.hstack([_captioned(cell, text) for cell, text in cells]))
    return np.vstack(rows)


def require_picture_name(option: str, path: Path | None) -> None:
    """Raise ConfigError unless ``path`` is None or named as a PNG or JPEG."""
    if path is not None and path.suffix.lower() not in PICTURE_SUFFIXES:
        raise ConfigError(f"{option}: {path}; expected a name that ends in {', '.join(PICTURE_SUFFIXES)}")


def write_picture(image_bgr: ImageBgr, path: Path) -> None:
    """Write a PNG or JPEG. Raises SinkError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), image_bgr)
    except (OSError, cv2.error) as error:
        raise SinkError(f"figure: {path}; cannot be written ({error})") from error
    if not written:
        raise SinkError(
            f"figure: {path}; cannot be written. Try: a name that ends in .png in a folder of yours"
        )


def _outlined(image_rgb: ImageRgb, truth: Mask, predicted: Mask) -> ImageBgr:
    tile = np.ascontiguousarray(image_rgb[..., ::-1])
    thickness = max(2, round(max(tile.shape[:2]) / 200))
    for mask, colour in ((truth, TRUTH_BGR), (predicted, PREDICTED_BGR)):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, contours, -1, colour, thickness)
    return tile


def _white(mask: Mask) -> ImageBgr:
    return np.repeat(mask.astype(np.uint8)[..., None] * np.uint8(255), 3, axis=2)


def _captioned(image_bgr: ImageBgr, text: str) -> ImageBgr:
    """The picture fitted into a tile, a line of text under it."""
    width, height = TILE_WH
    scale = min(width / image_bgr.shape[1], height / image_bgr.shape[0])
    size = (max(1, round(image_bgr.shape[1] * scale)), max(1, round(image_bgr.shape[0] * scale)))
    tile = np.zeros((height + 24, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = cv2.resize(
        image_bgr, size, interpolation=cv2.INTER_AREA
    )
    cv2.putText(tile, text, (4, height + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def _grid(tiles: Sequence[ImageBgr], columns: int) -> ImageBgr:
    blank = np.zeros_like(tiles[0])
    filled = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)])
