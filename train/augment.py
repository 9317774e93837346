"""Change a training picture and its mask together: geometry, mixing, holes; then the picture alone
(``degrade.py``).

Every function takes its own random generator and draws from it in a fixed order, so that the same seed,
epoch and index give the same bytes on any machine and with any number of workers. Pictures are uint8 H × W ×
3 RGB, masks uint8 H × W with 0 or 255. Separate from the batches (``batches.py``), which say which picture
comes when.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from endostream.models.segmenter import ImageRgb
from endostream.models.transform import Transform

from .degrade import degrade
from .polyp_removal import without_polyps
from .recipe import AugmentRecipe

MaskBytes = npt.NDArray[np.uint8]
"""H × W, 0 or 255; half-way values only inside one warp."""
Matrix = npt.NDArray[np.float64]
"""2 × 3, from source to input pixels (x, y)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture (uint8, H × W × 3, RGB) and its mask (uint8, H × W, 0 or 255)."""

    image_rgb: ImageRgb
    mask: MaskBytes


def letterboxed(sample: Sample, input_hw: tuple[int, int]) -> Sample:
    """The sample as the live path shows it to the network: ``models/transform.py`` and nothing else."""
    transform = Transform.of_picture((sample.mask.shape[0], sample.mask.shape[1]), input_hw)
    mask = transform.forward_mask(sample.mask > 127)
    return Sample(transform.forward(sample.image_rgb), mask.view(np.uint8) * np.uint8(255))


def augment(
    sample: Sample,
    partner: Sample,
    settings: AugmentRecipe,
    input_hw: tuple[int, int],
    random: np.random.Generator,
    *,
    calm: bool = False,
) -> Sample:
    """One training sample of ``input_hw``.

    Args:
        sample: at any size.
        partner: another picture, for cutmix and copy-paste.
        settings: shares and ranges.
        input_hw: height and width wanted.
        random: of this sample alone.
        calm: leave out cutmix and copy-paste.
    """
    if random.random() < settings.polyp_removed:
        sample = _without_polyps(sample, random)
    if random.random() < settings.polyp_free:
        sample = polyp_free_crop(sample, random) or sample
    out = _place(sample, settings, input_hw, random)
    mix = random.random()
    if not calm and mix < settings.cutmix:
        out = cutmix(out, _place(partner, settings, input_hw, random), random)
    elif not calm and mix < settings.cutmix + settings.copy_paste:
        out = copy_paste(out, _place(partner, settings, input_hw, random))
    image = degrade(out.image_rgb, settings, random)
    out = Sample(image, out.mask)
    if random.random() < settings.cutout:
        out = cutout(out, random)
    if random.random() < settings.random_erasing:
        out = random_erasing(out, random)
    return out


def _place(
    sample: Sample, settings: AugmentRecipe, input_hw: tuple[int, int], random: np.random.Generator
) -> Sample:
    """Flip and move the sample into the input, by one affine map so that it is resampled once."""
    flips = (random.random() < settings.flip, random.random() < settings.flip)
    if random.random() >= settings.affine:
        return _flipped(letterboxed(sample, input_hw), flips)
    matrix = affine_matrix((sample.mask.shape[0], sample.mask.shape[1]), input_hw, settings, random, flips)
    return warped(sample, matrix, input_hw)


def _flipped(sample: Sample, flips: tuple[bool, bool]) -> Sample:
    across, down = flips
    rows, columns = slice(None, None, -1 if down else 1), slice(None, None, -1 if across else 1)
    return Sample(
        np.ascontiguousarray(sample.image_rgb[rows, columns]),
        np.ascontiguousarray(sample.mask[rows, columns]),
    )


def affine_matrix(
    source_hw: tuple[int, int],
    input_hw: tuple[int, int],
    settings: AugmentRecipe,
    random: np.random.Generator,
    flips: tuple[bool, bool] = (False, False),
) -> Matrix:
    """The letterbox's map, then a random scale, stretch, shear, rotation, flip and shift about the centre."""
    height, width = source_hw
    fit = min(input_hw[0] / height, input_hw[1] / width)
    scale = fit * np.exp(random.uniform(np.log(settings.scale_min), np.log(settings.scale_max)))
    stretch = np.sqrt(1 + random.uniform(-settings.stretch, settings.stretch))
    angle, shear = np.deg2rad(
        (
            random.uniform(-settings.rotate_deg, settings.rotate_deg),
            random.uniform(-settings.shear_deg, settings.shear_deg),
        )
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
    size = np.diag((scale * stretch * (-1 if flips[0] else 1), scale / stretch * (-1 if flips[1] else 1)))
    linear = turn @ slant @ size
    shift = random.uniform(-settings.shift, settings.shift, 2) * (input_hw[1], input_hw[0])
    centre_in = np.array([(input_hw[1] - 1) / 2, (input_hw[0] - 1) / 2])
    centre_out = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.hstack([linear, (centre_in + shift - linear @ centre_out)[:, None]])


def warped(sample: Sample, matrix: Matrix, input_hw: tuple[int, int]) -> Sample:
    """The sample through an affine map; black outside, the mask cut at one half."""
    size_wh = (input_hw[1], input_hw[0])
    image = cv2.warpAffine(sample.image_rgb, matrix, size_wh, flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(sample.mask, matrix, size_wh, flags=cv2.INTER_LINEAR)
    return Sample(np.asarray(image, np.uint8), _hard(np.asarray(mask, np.uint8)))


def _hard(mask: MaskBytes) -> MaskBytes:
    return np.where(mask > 127, np.uint8(255), np.uint8(0))


def polyp_free_crop(sample: Sample, random: np.random.Generator, tries: int = 12) -> Sample | None:
    """A crop of at least a third of each side without any polyp, and an empty mask; None if none was hit on.

    Kvasir-SEG has no picture without a polyp, so a network that sees nothing else fires on normal mucosa.
    Crops that are mostly black border teach nothing and are passed over.
    """
    height, width = sample.mask.shape
    for _ in range(tries):
        size_h, size_w = (
            int(side * share)
            for side, share in zip((height, width), random.uniform(0.34, 0.75, 2), strict=True)
        )
        top, left = int(random.integers(height - size_h + 1)), int(random.integers(width - size_w + 1))
        rows, columns = slice(top, top + size_h), slice(left, left + size_w)
        image = sample.image_rgb[rows, columns]
        if not sample.mask[rows, columns].any() and np.mean(image[::8, ::8].max(axis=2) > 40) > 0.6:
            return Sample(image, np.zeros((size_h, size_w), np.uint8))
    return None


def _without_polyps(sample: Sample, random: np.random.Generator) -> Sample:
    """The sample with its polyps covered, or as it is where that cannot be done."""
    image = without_polyps(sample.image_rgb, sample.mask, random)
    return sample if image is None else Sample(image, np.zeros_like(sample.mask))


def cutmix(sample: Sample, other: Sample, random: np.random.Generator) -> Sample:
    """A rectangle of the other sample, picture and mask, over this one (Yun et al. 2019)."""
    rows, columns = _rectangle(sample.mask.shape[:2], random, 0.2, 0.6)
    image, mask = sample.image_rgb.copy(), sample.mask.copy()
    image[rows, columns], mask[rows, columns] = other.image_rgb[rows, columns], other.mask[rows, columns]
    return Sample(image, mask)


def copy_paste(sample: Sample, other: Sample) -> Sample:
    """The other sample's polyps over this one, with soft edges, where this one shows tissue."""
    tissue = sample.image_rgb.max(axis=2) > 20
    alpha = cv2.GaussianBlur(other.mask, (0, 0), 2.0).astype(np.float32)[..., None] / 255 * tissue[..., None]
    blended = sample.image_rgb * (1 - alpha) + other.image_rgb * alpha
    pasted = np.where(tissue, other.mask, np.uint8(0))
    return Sample(np.rint(blended).astype(np.uint8), np.maximum(sample.mask, pasted))


def cutout(sample: Sample, random: np.random.Generator) -> Sample:
    """A rectangle in the picture's mean colour; what is hidden is no longer in the mask (DeVries 2017)."""
    return _covered(sample, random, sample.image_rgb.mean(axis=(0, 1)).astype(np.uint8))


def random_erasing(sample: Sample, random: np.random.Generator) -> Sample:
    """A rectangle of noise; what is hidden is no longer in the mask (Zhong et al. 2017)."""
    noise = random.integers(256, size=sample.image_rgb.shape, dtype=np.uint8)
    return _covered(sample, random, noise)


def _covered(sample: Sample, random: np.random.Generator, paint: npt.NDArray[np.uint8]) -> Sample:
    rows, columns = _rectangle(sample.mask.shape[:2], random, 0.08, 0.3)
    image, mask = sample.image_rgb.copy(), sample.mask.copy()
    image[rows, columns] = paint if paint.ndim == 1 else paint[rows, columns]
    mask[rows, columns] = 0
    return Sample(image, mask)


def _rectangle(
    size_hw: tuple[int, ...], random: np.random.Generator, least: float, most: float
) -> tuple[slice, slice]:
    """A rectangle inside the picture, each side between two shares of the picture's."""
    spans = []
    for side in size_hw:
        length = max(1, int(side * random.uniform(least, most)))
        start = int(random.integers(side - length + 1))
        spans.append(slice(start, start + length))
    return spans[0], spans[1]
