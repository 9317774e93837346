"""A picture with its polyps covered by mucosa of the same picture, and an empty mask: what a colon without polyp shows.

Kvasir-SEG has no picture without a polyp. Crops beside the polyp (``augment.polyp_free_crop``) leave the lumen, folds
and the round field of view out, and those are what a network trained on polyps alone takes for one. Here the whole view
stays and only the polyp goes: tissue of the same picture is laid over it by Poisson blending (Pérez et al. 2003).
Separate from the other augmentations because it has a method of its own. It looks right to a network, not to a doctor.
"""

import cv2
import numpy as np
import numpy.typing as npt

from endostream.models.segmenter import ImageRgb

_MARGIN = 0.15
"""Of the polyp's size: the mask's edge is where two annotators agree to Dice 0.96, so the cover goes beyond it."""
_DARK = 30
"""Brightest channel below which a pixel is border or deep lumen, no tissue to copy."""
_TRIES = 12
_LARGEST_SHARE = 0.3
"""Of the picture: what is larger leaves too little tissue to copy from."""


def without_polyps(
    image_rgb: ImageRgb, mask: npt.NDArray[np.uint8], random: np.random.Generator
) -> ImageRgb | None:
    """The picture with every polyp covered.

    Args:
        image_rgb: uint8 H × W × 3.
        mask: uint8 H × W, above 127 is polyp.
        random: where the tissue is taken from.

    Returns:
        uint8 H × W × 3, or None where a polyp is too large or no tissue fits over it.
    """
    polyp = np.asarray(mask > 127, np.uint8)
    if not 0 < polyp.mean() < _LARGEST_SHARE:
        return None
    grown = _grown(polyp)
    usable = (image_rgb.max(axis=2) > _DARK) & (grown == 0)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(grown)
    out = image_rgb
    for index in range(1, count):
        covered = _cover(out, np.asarray(labels == index), boxes[index], usable, random)
        if covered is None:
            return None
        out = covered
    return out


def _grown(polyp: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    side = 2 * max(2, round(_MARGIN * float(np.sqrt(polyp.sum())))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(polyp, kernel), np.uint8)


def _cover(
    image_rgb: ImageRgb,
    polyp: npt.NDArray[np.bool_],
    box: npt.NDArray[np.int32],
    usable: npt.NDArray[np.bool_],
    random: np.random.Generator,
) -> ImageRgb | None:
    """Lay tissue from elsewhere, maybe mirrored, over one polyp; None if none was hit on."""
    left, top, width, height = (int(each) for each in box[:4])
    picture_h, picture_w = polyp.shape
    inner = polyp[top : top + height, left : left + width]
    if min(left, top) < 1 or left + width >= picture_w or top + height >= picture_h:
        return None  # Poisson blending needs a pixel around
    for _ in range(_TRIES):
        row, column = (int(random.integers(1, side)) for side in (picture_h - height, picture_w - width))
        mirrored = slice(None, None, -1 if random.random() < 0.5 else 1)
        rows, columns = slice(row, row + height), slice(column, column + width)
        if np.mean(usable[rows, columns][:, mirrored][inner]) > 0.98:
            donor = np.ascontiguousarray(image_rgb[rows, columns][:, mirrored])
            stencil = np.pad(inner.astype(np.uint8) * np.uint8(255), 1)
            tissue = cv2.copyMakeBorder(donor, 1, 1, 1, 1, cv2.BORDER_REFLECT)
            centre = (left + width // 2, top + height // 2)
            return np.asarray(
                cv2.seamlessClone(tissue, image_rgb, stencil, centre, cv2.NORMAL_CLONE), np.uint8
            )
    return None
