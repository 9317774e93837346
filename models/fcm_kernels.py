"""The loops of fuzzy c-means and of the median-based Otsu threshold, compiled by Numba.

Separate because compiled functions take arrays and numbers only: checks, defaults and names for what comes
out are in ``fcm.py``. Signatures are given, so that everything is compiled (or read from Numba's cache) on
import and no first frame pays for it. Single-threaded on purpose: the video path needs the other core.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Function = TypeVar("Function", bound=Callable[..., Any])

SMALLEST_DISTANCE = float(np.finfo(np.float64).eps)  # as scikit-fuzzy floors it
GREEN_MARGIN = 12  # levels; green above red by more is the ScopeGuide inset, never mucosa


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile now, and keep the result on disk: beside the file, else in the user's cache, else nowhere."""

    def compile_now(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(signature, cache=True, nogil=True)(function))
        except (RuntimeError, OSError):  # no folder to keep it in can be written to
            return cast(Function, numba.njit(signature, nogil=True)(function))

    return compile_now


@compiled("Tuple((uint8[:,::1], boolean[:,::1]))(uint8[:,:,::1], int64)")
def grey_and_view(image_rgb: Bytes, dark_level: int) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Grey (BT.601 luma, rounded) and whether a pixel can be tissue: neither black border nor green inset."""
    height, width = image_rgb.shape[:2]
    grey = np.empty((height, width), np.uint8)
    view = np.empty((height, width), np.bool_)
    for row in range(height):
        for column in range(width):
            red = np.int32(image_rgb[row, column, 0])
            green = np.int32(image_rgb[row, column, 1])
            blue = np.int32(image_rgb[row, column, 2])
            grey[row, column] = (9798 * red + 19235 * green + 3735 * blue + 16384) >> 15
            view[row, column] = (max(red, green, blue) > dark_level) & (green <= red + GREEN_MARGIN)
    return grey, view


@compiled("float64[::1](uint8[:,::1])")
def histogram(levels: Bytes) -> Floats:
    """How many pixels have each of the 256 levels."""
    counts = np.zeros(256, np.int64)
    for row in range(levels.shape[0]):
        for column in range(levels.shape[1]):
            counts[levels[row, column]] += 1
    return counts.astype(np.float64)


@compiled("float64[::1](uint8[:,::1], boolean[:,::1])")
def histogram_inside(levels: Bytes, inside: npt.NDArray[np.bool_]) -> Floats:
    """How many pixels inside have each of the 256 levels."""
    counts = np.zeros(256, np.int64)
    for row in range(levels.shape[0]):
        for column in range(levels.shape[1]):
            counts[levels[row, column]] += inside[row, column]
    return counts.astype(np.float64)


@compiled("void(float64[::1], float64[::1], float64, float64[:,::1])")
def fill_memberships(positions: Floats, centres: Floats, m: float, memberships: Floats) -> None:
    """u[k, i] = d(i, k)^(-2 / (m - 1)), scaled so that each position's memberships add up to 1."""
    power = -2.0 / (m - 1.0)
    for i in range(positions.size):
        total = 0.0
        for k in range(centres.size):
            distance = max(abs(positions[i] - centres[k]), SMALLEST_DISTANCE)
            weight = 1.0 / (distance * distance) if m == 2.0 else distance**power
            memberships[k, i] = weight
            total += weight
        for k in range(centres.size):
            memberships[k, i] /= total


@compiled("int64(float64[::1], float64[::1], float64[::1], float64, int64, float64)")
def iterate(
    positions: Floats, weights: Floats, centres: Floats, m: float, max_iterations: int, tolerance: float
) -> int:
    """Run fuzzy c-means on weighted positions, ``centres`` in place; returns how many iterations it took."""
    memberships = np.empty((centres.size, positions.size))
    before = np.empty_like(memberships)
    fill_memberships(positions, centres, m, memberships)
    for iteration in range(1, max_iterations + 1):
        memberships, before = before, memberships
        for k in range(centres.size):
            above, below = 0.0, 0.0
            for i in range(positions.size):
                share = before[k, i] * before[k, i] if m == 2.0 else before[k, i] ** m
                above += weights[i] * share * positions[i]
                below += weights[i] * share
            centres[k] = above / below
        fill_memberships(positions, centres, m, memberships)
        change = 0.0
        for k in range(centres.size):
            for i in range(positions.size):
                change += weights[i] * (memberships[k, i] - before[k, i]) ** 2
        if np.sqrt(change) < tolerance:
            return iteration
    return max_iterations


@compiled("float64(float64[::1], float64[::1], float64[::1], float64)")
def objective(positions: Floats, weights: Floats, centres: Floats, m: float) -> float:
    """What fuzzy c-means makes small: weighted sum of u^m d^2 over positions and centres."""
    memberships = np.empty((centres.size, positions.size))
    fill_memberships(positions, centres, m, memberships)
    total = 0.0
    for k in range(centres.size):
        for i in range(positions.size):
            total += weights[i] * memberships[k, i] ** m * (positions[i] - centres[k]) ** 2
    return total


@compiled("int64(float64[::1])")
def median_split(counts: Floats) -> int:
    """Level t for which the absolute deviations from the medians of levels <= t and > t add up to least."""
    best_level, least = 0, np.inf
    for level in range(counts.size - 1):
        deviation = 0.0
        for first, end in ((0, level + 1), (level + 1, counts.size)):
            total = counts[first:end].sum()
            median, passed = first, counts[first]
            while 2.0 * passed < total:
                median += 1
                passed += counts[median]
            for i in range(first, end):
                deviation += counts[i] * abs(i - median)
        if deviation < least:
            best_level, least = level, deviation
    return best_level
