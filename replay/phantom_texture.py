"""The phantom's mucosa: a tile of vessels, mottling, wetness and fine relief, and the table from light to colour.

Separate because it is made once at open and is plain image work; the kernels only look it up.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from endostream.pipeline.frame import ImageBgr

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Plane = npt.NDArray[np.float32]

TILE_PX = 1024
"""Side of the tile; it repeats in both directions."""
LEVELS = 4
"""Mip levels: the tile at 1, 1/2, 1/4 and 1/8 of its side."""
BLOOD_STEPS = 64
"""Rows of the colour table; 24 is plain mucosa, less is paler, more is redder, the first few are yellow residue."""
PLAIN_BLOOD = 24.0

# Median green and blue of real mucosa (non-polyp pixels of 90 Kvasir-SEG images) by red value.
_RED = (0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240, 255)
_GREEN = (0, 9, 21, 30, 40, 53, 65, 75, 85, 96, 109, 126, 165, 243)
_BLUE = (0, 6, 14, 20, 28, 37, 45, 55, 63, 72, 80, 91, 124, 226)


def colour_table() -> Bytes:
    """(BLOOD_STEPS, 256, 3) uint8 BGR: colour of mucosa by blood and by light level (0 dark, 255 overexposed)."""
    level = np.arange(256, dtype=np.float64)
    red = np.interp(level, [0, 128, 190, 232, 255], [4, 150, 212, 250, 255])
    plain = np.stack([np.interp(red, _RED, _BLUE) + 3, np.interp(red, _RED, _GREEN) + 3, red], axis=1)
    more = (np.arange(BLOOD_STEPS) - PLAIN_BLOOD)[:, None, None]
    absorbed = np.exp(-more * np.array([0.021, 0.019, 0.0042]))
    # Overexposure washes colour out, whatever the blood.
    washed = np.clip((level - 205) / 50, 0, 1)[None, :, None]
    table = plain[None] * (absorbed * (1 - washed) + washed)
    residue = np.clip((14 - np.arange(BLOOD_STEPS)) / 8, 0, 1)[:, None, None]
    yellow = level[None, :, None] * np.array([0.22, 0.62, 0.92]) + np.array([2.0, 4.0, 4.0])
    table = table * (1 - residue) + yellow * residue
    return np.asarray(np.clip(table, 0, 255), dtype=np.uint8)


def _noise(rng: np.random.Generator, coarse_px: float, fine_px: float) -> Plane:
    """Periodic noise with features between the two sizes; mean 0, standard deviation 1."""
    rate = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None, :])
    band = np.exp(-((rate * fine_px) ** 2)) * (1 - np.exp(-((rate * coarse_px) ** 2)))
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX), dtype=np.float32)) * band
    plane = np.fft.irfft2(spectrum, s=(TILE_PX, TILE_PX))
    return np.asarray(plane / plane.std(), dtype=np.float32)


def _draw_wrapped(plane: Bytes, points: npt.NDArray[np.float64], width: float, value: int) -> None:
    """Draw a line on the tile, which goes on at the opposite side."""
    low, high = points.min(axis=0) - width, points.max(axis=0) + width
    for dx in range(int(low[0] // TILE_PX), int(high[0] // TILE_PX) + 1):
        for dy in range(int(low[1] // TILE_PX), int(high[1] // TILE_PX) + 1):
            shifted = np.round((points - np.array([dx, dy]) * TILE_PX) * 8).astype(np.int32)
            cv2.polylines(plane, [shifted], False, value, max(1, round(width)), cv2.LINE_AA, 3)


def _grow_vessel(
    rng: np.random.Generator, plane: Bytes, start: npt.NDArray[np.float64], heading: float, width: float
) -> None:
    """A vessel that wanders, thins and forks until it is too thin to see."""
    steps = int(rng.integers(9, 22))
    headings = heading + np.cumsum(rng.normal(0, 0.22, steps))
    lengths = rng.uniform(5, 10, steps)[:, None]
    points = start + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * lengths, axis=0)
    _draw_wrapped(plane, np.vstack([start, points]), width, int(np.clip(60 + 40 * width, 0, 230)))
    if width < 1.0:
        return
    for side in (-1, 1):
        thinner = width * rng.uniform(0.55, 0.9)
        _grow_vessel(rng, plane, points[-1], float(headings[-1]) + side * rng.uniform(0.25, 0.8), thinner)


def _vessels(rng: np.random.Generator) -> Plane:
    """0 to 1: where vessels shine through, blurred as by the mucosa above them, and not everywhere alike."""
    plane = np.zeros((TILE_PX, TILE_PX), np.uint8)
    for _ in range(34):
        _grow_vessel(rng, plane, rng.uniform(0, TILE_PX, 2), rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 3.6))
    soft = cv2.GaussianBlur(plane, (0, 0), 1.3).astype(np.float32) / 255
    seen = np.clip(0.55 + 0.35 * _noise(rng, 900, 140), 0.1, 1.0)
    return np.asarray(soft * seen, dtype=np.float32)


def mucosa_tile(rng: np.random.Generator) -> Bytes:
    """(TILE_PX, TILE_PX, 4) uint8: blood (× 4), wetness, and relief slope along and across, 128 for level."""
    blood = PLAIN_BLOOD + 2.6 * _noise(rng, 700, 90) + 1.3 * _noise(rng, 120, 12) + 0.7 * _noise(rng, 14, 3)
    blood += 40 * _vessels(rng)
    residue = np.clip(_noise(rng, 500, 60) + 0.45 * _noise(rng, 50, 6) - 2.5, 0, 0.7)
    blood = np.maximum(blood - 34 * residue, 1)
    height = 3.0 * _noise(rng, 260, 60) + 0.6 * _noise(rng, 60, 16) + 0.16 * _noise(rng, 18, 7)
    along = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) / 2
    across = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) / 2
    wet = 110 + 70 * _noise(rng, 400, 60)
    planes = [blood * 4, wet, 128 + 100 * along, 128 + 100 * across]
    return np.asarray(np.clip(np.stack(planes, axis=2), 0, 255), dtype=np.uint8)


def with_mips(tile: Bytes) -> npt.NDArray[np.uint8]:
    """The tile and its smaller copies, one after another, as (texels, 4) uint8."""
    levels = [tile]
    while len(levels) < LEVELS:
        side = levels[-1].shape[0] // 2
        smaller = cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(smaller, dtype=np.uint8))
    return np.concatenate([level.reshape(-1, 4) for level in levels])


def noise_table(rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """2^18 values of sensor noise, standard deviation 4 levels."""
    return np.clip(np.round(rng.normal(0, 4.0, 2**18)), -20, 20).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Surface:
    """What the kernels look up: ``mips`` (texels,) and ``colours`` (BLOOD_STEPS, 256) packed in uint32, ``noise``."""

    mips: Words
    colours: Words
    noise: npt.NDArray[np.int8]


@lru_cache(maxsize=2)
def surface(seed: int) -> Surface:
    """The surface of one seed; kept, so that opening the same phantom again is quick. Not to be written to."""
    rng = np.random.default_rng((seed, 3))
    mips = np.ascontiguousarray(with_mips(mucosa_tile(rng))).view(np.uint32).ravel()
    colours = colour_table()
    packed = np.dstack([colours, np.zeros_like(colours[..., :1])])
    return Surface(mips, np.ascontiguousarray(packed).view(np.uint32)[..., 0].copy(), noise_table(rng))


def label_patch(text: list[str], height: int, width: int) -> ImageBgr:
    """Text as beside a real picture: height × width × 3, grey on black; too small a place stays black."""
    patch = np.zeros((height, width, 3), np.uint8)
    longest = max(len(line) for line in text)
    scale = min(width / (longest * 19.0 + 10), height / (len(text) * 40.0))
    if scale < 0.3:
        return patch
    for k, line in enumerate(text):
        place = (round(8 * scale), round((28 + 36 * k) * scale))
        cv2.putText(
            patch, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale * 0.9, (200, 200, 200), 1, cv2.LINE_AA
        )
    return patch
