"""The fixed copies of each picture that the Kvasir-SEG paper's authors train on: the picture itself and 30
more.

Their code makes them beforehand, once; here copy ``n`` of picture ``i`` is drawn from (seed, i, n), the same
in each epoch, which comes to the same without the disk. Kinds and counts follow their public code
(ResUNet++, 2020): centre crop, 5 random crops, both flips, 3 zooms, 5 rotations, 3 cutouts, 3 brightnesses,
and 8 of these in grey. Only for the paper's recipe; ours is ``augment.py``.
"""

from collections.abc import Callable

import cv2
import numpy as np

from .augment import Sample, letterboxed, warped

Step = Callable[[Sample, np.random.Generator], Sample]
CROP_SHARE = 256 / 300
"""Side of their crops, of the picture's."""


def _moved(sample: Sample, zoom: float, angle_deg: float, at: tuple[float, float]) -> Sample:
    """Zoomed and turned, looking at a point given as shares of the room that the zoom leaves."""
    height, width = sample.mask.shape
    room = np.array([width, height]) * (1 - 1 / zoom)
    centre = np.array([width, height]) / 2 + (np.array(at) - 0.5) * room
    about = (float(centre[0]), float(centre[1]))
    matrix = np.array(cv2.getRotationMatrix2D(about, angle_deg, zoom), np.float64)
    matrix[:, 2] += np.array([width, height]) / 2 - centre
    return warped(sample, matrix, (height, width))


def _centre_crop(sample: Sample, random: np.random.Generator) -> Sample:
    return _moved(sample, 1 / CROP_SHARE, 0.0, (0.5, 0.5))


def _random_crop(sample: Sample, random: np.random.Generator) -> Sample:
    return _moved(sample, 1 / CROP_SHARE, 0.0, (random.random(), random.random()))


def _flip_across(sample: Sample, random: np.random.Generator) -> Sample:
    return Sample(np.ascontiguousarray(sample.image_rgb[:, ::-1]), np.ascontiguousarray(sample.mask[:, ::-1]))


def _flip_down(sample: Sample, random: np.random.Generator) -> Sample:
    return Sample(np.ascontiguousarray(sample.image_rgb[::-1]), np.ascontiguousarray(sample.mask[::-1]))


def _zoom(least: float, most: float) -> Step:
    def step(sample: Sample, random: np.random.Generator) -> Sample:
        return _moved(sample, random.uniform(least, most), 0.0, (random.random(), random.random()))

    return step


def _rotation(sample: Sample, random: np.random.Generator) -> Sample:
    return _moved(sample, 1.0, random.uniform(0, 90), (0.5, 0.5))


def _cutout(sample: Sample, random: np.random.Generator) -> Sample:
    """A square of up to half the side in the mean colour, off the mask too."""
    height, width = sample.mask.shape
    side = int(min(height, width) * random.uniform(0.1, 0.5))
    top, left = int(random.integers(height - side)), int(random.integers(width - side))
    image, mask = sample.image_rgb.copy(), sample.mask.copy()
    image[top : top + side, left : left + side] = image.mean(axis=(0, 1))
    mask[top : top + side, left : left + side] = 0
    return Sample(image, mask)


def _brightness(most: float) -> Step:
    def step(sample: Sample, random: np.random.Generator) -> Sample:
        gain = 1 + random.uniform(-most, most)
        return Sample(cv2.convertScaleAbs(sample.image_rgb, alpha=gain).astype(np.uint8), sample.mask)

    return step


STEPS: tuple[Step, ...] = (
    _centre_crop,
    *(_random_crop,) * 5,
    _flip_across,
    _flip_down,
    _zoom(2.0, 3.0),
    _zoom(2.1, 3.2),
    _zoom(2.8, 4.0),
    *(_rotation,) * 5,
    *(_cutout,) * 3,
    _brightness(0.3),
    _brightness(0.6),
    _brightness(0.9),
)
GREY_OF = (0, 1, 6, 7, 8, 11, 16, 19)
"""Steps that come once more in grey."""
COPIES = 1 + len(STEPS) + len(GREY_OF)


def paper_copy(sample: Sample, copy: int, input_hw: tuple[int, int], random: np.random.Generator) -> Sample:
    """Copy ``copy`` of a sample at the input's size; 0 is the sample itself, COPIES and more begin anew."""
    base = letterboxed(sample, input_hw)
    copy %= COPIES
    if copy == 0:
        return base
    if copy <= len(STEPS):
        return STEPS[copy - 1](base, random)
    changed = STEPS[GREY_OF[copy - 1 - len(STEPS)]](base, random)
    grey = cv2.cvtColor(changed.image_rgb, cv2.COLOR_RGB2GRAY)
    return Sample(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), changed.mask)
