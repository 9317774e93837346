"""Numba kernels that find and light the phantom's wall: rays to the folds, normals, light, texture coordinates.

Separate because Numba cannot call methods and because drawing (``phantom_paint.py``) is another matter. Nothing here
knows of time, textures or pictures. float32 throughout; lengths in units, positions with z in [0, 2 × PERIOD).
"""

import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from .phantom_scene import PERIOD, ROWS, TEXTURES_PER_PERIOD, Table
from .phantom_texture import TILE_PX

P = ParamSpec("P")
R = TypeVar("R")
F = cast(Callable[[float], float], np.float32)
"""float32: plain numbers would make a kernel compute in double. For a type checker it is a float like others."""
U = cast(Callable[[int], int], np.uint64)
"""An index known not to be negative, which spares the check for counting from the end."""
Noise = npt.NDArray[np.int8]
Point = tuple[float, float, float]
Ray = tuple[float, float, float, float, float, float]
"""Origin x, y, z and unit direction x, y, z."""

_FAST = {"nnan", "ninf", "nsz", "arcp", "contract"}
Look = tuple[float, float, float, float, float]
"""Of a point of the wall: texture u and v in texels, light, slopes of the view against it around and along the tube."""
_ROWS_PER_UNIT = F(ROWS / PERIOD)
_TEXELS_PER_UNIT = F(TILE_PX * TEXTURES_PER_PERIOD / PERIOD)
_ROWS_BEHIND = F(ROWS)
"""Keeps row numbers above 0 where rays look back, so that cutting off is rounding down; so do the next two."""
_TEXELS_LEFT, _TEXELS_BEHIND = F(4 * TILE_PX), F(16 * TILE_PX)
_TEXELS_AROUND = F(2 * TILE_PX)
_NEAR, _FAR, _LEAP, _CLOSE = F(0.02), F(9.0), F(1.1), F(8e-4)
_ONE, _HALF, _ZERO = F(1), F(0.5), F(0)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile with Numba: cached on disk, without the GIL, divisions unchecked, no reordering of sums."""
    compiled: Callable[P, R] = njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As ``kernel``, always drawn into its callers: an array argument is seven machine words at each call."""
    compiled: Callable[P, R] = njit(
        cache=True, nogil=True, error_model="numpy", fastmath=_FAST, forceinline=True
    )(function)
    return compiled


class Scope(NamedTuple):
    """Where the scope is, all float32 but ``first``. Numbers only: an array in a tuple is counted at each use.

    Attributes:
        origin, right, down, ahead: x, y, z each.
        first: number of the fold ahead.
        room: distance from the origin to the wall, at least 0.001.
    """

    origin: Point
    right: Point
    down: Point
    ahead: Point
    first: int
    room: float


@inlined
def _square(x: float) -> float:
    return x * x


@inlined
def depth_inside(rows: Table, x: float, y: float, z: float) -> float:
    """How far the point lies inside the wall, measured away from the centre line; negative outside."""
    place = z * _ROWS_PER_UNIT + _ROWS_BEHIND
    low = int(place)
    part = F(place - F(low))
    a, b = U(low & (ROWS - 1)), U((low + 1) & (ROWS - 1))
    px = x - (rows[a, 7] + part * (rows[b, 7] - rows[a, 7]))
    py = y - (rows[a, 8] + part * (rows[b, 8] - rows[a, 8]))
    rho = math.sqrt(px * px + py * py + F(1e-6))
    inverse = _ONE / rho
    c1, s1 = px * inverse, py * inverse
    c2, s2 = c1 * c1 - s1 * s1, F(2) * c1 * s1
    c3, s3 = c2 * c1 - s2 * s1, s2 * c1 + c2 * s1
    near = (
        rows[a, 0]
        + rows[a, 1] * c1
        + rows[a, 2] * s1
        + rows[a, 3] * c2
        + rows[a, 4] * s2
        + rows[a, 5] * c3
        + rows[a, 6] * s3
    )
    far = (
        rows[b, 0]
        + rows[b, 1] * c1
        + rows[b, 2] * s1
        + rows[b, 3] * c2
        + rows[b, 4] * s2
        + rows[b, 5] * c3
        + rows[b, 6] * s3
    )
    return F(near + part * (far - near) - rho)


@inlined
def _solve(rows: Table, ray: Ray, t0: float, f0: float, t1: float, f1: float) -> float:
    """Distance of the wall between ``t0`` (inside) and ``t1`` (outside), by the rule of Anderson and Björck."""
    ox, oy, oz, dx, dy, dz = ray
    t = t1
    for _ in range(9):
        t = t0 + (t1 - t0) * f0 / (f0 - f1)
        f = depth_inside(rows, ox + t * dx, oy + t * dy, oz + t * dz)
        if abs(f) < _CLOSE:
            break
        if f > _ZERO:
            f1 *= _HALF if f >= f0 else _ONE - f / f0
            t0, f0 = t, f
        else:
            f0 *= _HALF if f <= f1 else _ONE - f / f1
            t1, f1 = t, f
    return t


@inlined
def trace(rows: Table, ridges: Table, scope: Scope, ray: Ray) -> tuple[float, int]:
    """Distance to the wall and number of the fold before which it was met.

    A ray goes from fold to fold: the wall between two folds lies outside both of them, so that a ray that is still
    inside at a fold's crest has met nothing before it (bends are too gentle for anything else within ``_LEAP``).
    """
    ox, oy, oz, dx, dy, dz = ray
    step = 1 if dz >= _ZERO else -1
    fold = scope.first if step > 0 else scope.first - 1
    per_z = _ONE / dz if abs(dz) > F(1e-3) else F(1e6) * F(step)
    t0, f0 = _NEAR, scope.room
    while t0 < _FAR:
        at_fold = (ridges[U(fold)] - oz) * per_z
        t1 = min(at_fold, t0 + _LEAP)
        f1 = depth_inside(rows, ox + t1 * dx, oy + t1 * dy, oz + t1 * dz)
        if f1 < _ZERO:
            return _solve(rows, ray, t0, f0, t1, f1), fold
        if t1 == at_fold:
            fold += step
        t0, f0 = t1, f1
    return _FAR, fold


@inlined
def _angle(y: float, x: float) -> float:
    """Angle of (x, y) over a full turn, in [-0.5, 0.5]; to 1e-4 rad (Rajan et al., IEEE SPM 2006)."""
    ax, ay = abs(x), abs(y)
    low, high = min(ax, ay), max(ax, ay) + F(1e-12)
    q = low / high
    s = q * q
    a = q * (F(0.99986) + s * (F(-0.3302995) + s * (F(0.180141) + s * (F(-0.085133) + s * F(0.0208351)))))
    if ay > ax:
        a = F(math.pi / 2) - a
    if x < _ZERO:
        a = F(math.pi) - a
    return math.copysign(a, y) * F(0.5 / math.pi)


@inlined
def shadow(lobes: Table, ray: Ray, t: float) -> float:
    """How much light polyps near the point leave it: 1 away from them, less in the groove about their foot."""
    x, y, z = ray[0] + t * ray[3], ray[1] + t * ray[4], ray[2] + t * ray[5]
    left = _ONE
    for k in range(lobes.shape[0]):
        vx, vy, vz = x - lobes[k, 0], y - lobes[k, 1], z - lobes[k, 2]
        reach = lobes[k, 18] * F(2.3)
        if vx * vx + vy * vy + vz * vz < reach * reach:
            qx = lobes[k, 3] * vx + lobes[k, 4] * vy + lobes[k, 5] * vz
            qy = lobes[k, 6] * vx + lobes[k, 7] * vy + lobes[k, 8] * vz
            qz = lobes[k, 9] * vx + lobes[k, 10] * vy + lobes[k, 11] * vz
            away = max(math.sqrt(qx * qx + qy * qy + qz * qz) - _ONE, _ZERO)
            left *= _ONE - F(0.5) * _square(max(_ONE - away * F(0.8), _ZERO))
    return left


@inlined
def _at(rows: Table, a: int, b: int, part: float, column: int) -> float:
    return F(rows[a, column] + part * (rows[b, column] - rows[a, column]))


@inlined
def _waves(rows: Table, a: int, b: int, part: float, first: int, turn: tuple[float, ...]) -> float:
    """Sum of the six waves that begin at column ``first``; ``turn``: cosine and sine of 1, 2 and 3 angles."""
    total = _at(rows, a, b, part, first) * turn[0] + _at(rows, a, b, part, first + 1) * turn[1]
    total += _at(rows, a, b, part, first + 2) * turn[2] + _at(rows, a, b, part, first + 3) * turn[3]
    return total + _at(rows, a, b, part, first + 4) * turn[4] + _at(rows, a, b, part, first + 5) * turn[5]


@inlined
def shade(rows: Table, stretch: float, ray: Ray, t: float, facing: float) -> Look:
    """What the wall looks like at distance ``t``; ``facing``: cosine between ray and optical axis (light's cone)."""
    ox, oy, oz, dx, dy, dz = ray
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    place = z * _ROWS_PER_UNIT + _ROWS_BEHIND
    low = int(place)
    part = F(place - F(low))
    a, b = U(low & (ROWS - 1)), U((low + 1) & (ROWS - 1))
    px, py = x - _at(rows, a, b, part, 7), y - _at(rows, a, b, part, 8)
    rho = math.sqrt(px * px + py * py + F(1e-6))
    c1, s1 = px / rho, py / rho
    c2, s2 = c1 * c1 - s1 * s1, F(2) * c1 * s1
    c3, s3 = c2 * c1 - s2 * s1, s2 * c1 + c2 * s1
    around = _waves(rows, a, b, part, 1, (-s1, c1, -F(2) * s2, F(2) * c2, -F(3) * s3, F(3) * c3)) / rho
    along = _at(rows, a, b, part, 9) + _waves(rows, a, b, part, 10, (c1, s1, c2, s2, c3, s3))
    along += _at(rows, a, b, part, 16) * c1 + _at(rows, a, b, part, 17) * s1
    inverse = _ONE / math.sqrt(_ONE + around * around + along * along)
    # Back along the ray, in the wall's own frame: outward, around, along.
    v_out, v_around, v_along = -(dx * c1 + dy * s1), dx * s1 - dy * c1, -dz
    cosine = (-v_out + v_around * around + v_along * along) * inverse
    steep = _ONE / max(cosine, F(0.4))
    turn = _angle(s1, c1)
    v = (stretch * z + _at(rows, a, b, part, 18)) * _TEXELS_PER_UNIT + turn * F(TILE_PX) + _TEXELS_BEHIND
    deep = max(rho - F(0.55), _ZERO)
    cavity = F(0.62) + F(0.38) / (_ONE + F(4) * deep * deep)
    light = (F(0.1) + F(0.9) * max(cosine, _ZERO)) * cavity * facing / (t * t + F(0.03))
    slopes = (v_around - cosine * around * inverse) * steep, (v_along - cosine * along * inverse) * steep
    return turn * _TEXELS_AROUND + _TEXELS_LEFT, v, light, slopes[0], slopes[1]


@inlined
def ray_at(scope: Scope, ways: Table, y: int, x: int) -> Ray:
    """The ray of a pixel; ``ways`` (H, W, 3): the lens's unit directions right, down, ahead."""
    right, down, ahead = ways[y, x, 0], ways[y, x, 1], ways[y, x, 2]
    dx = right * scope.right[0] + down * scope.down[0] + ahead * scope.ahead[0]
    dy = right * scope.right[1] + down * scope.down[1] + ahead * scope.ahead[1]
    dz = right * scope.right[2] + down * scope.down[2] + ahead * scope.ahead[2]
    return scope.origin[0], scope.origin[1], scope.origin[2], dx, dy, dz
