"""Numba kernel that draws the phantom's polyps over the painted wall, and how much of each pixel they cover.

Separate from the wall because a polyp is solved, not searched for: a ray meets an ellipsoid in closed form, and its
lumps are a small change of radius. Coverage is what the exact mask is made from.
"""

import math

import numpy as np
import numpy.typing as npt

from endostream.pipeline.frame import ImageBgr

from .phantom_paint import glint, put, texel, tone
from .phantom_scene import Table
from .phantom_texture import PLAIN_BLOOD, Words
from .phantom_wall import F, Noise, Scope, U, inlined, kernel, ray_at

Bytes = npt.NDArray[np.uint8]
_ONE, _ZERO = F(1), F(0)
_TEXELS_PER_UNIT = F(1100)


@inlined
def _lumps(x: float, y: float, z: float, a: float, b: float, c: float) -> tuple[float, float, float, float]:
    """Height of the lumps in [-1, 1] at a point of the unit sphere, and its gradient."""
    p, q, r = F(3.3) * x + F(1.9) * y + a, F(3.7) * y - F(2.1) * z + b, F(4.1) * z + F(2.3) * x + c
    sp, sq, sr = math.sin(p), math.sin(q), math.sin(r)
    cp, cq, cr = math.cos(p), math.cos(q), math.cos(r)
    third = F(1 / 3)
    gx, gy = third * (F(3.3) * cp + F(2.3) * cr), third * (F(1.9) * cp + F(3.7) * cq)
    return third * (sp + sq + sr), gx, gy, third * (F(4.1) * cr - F(2.1) * cq)


@inlined
def _turned(lobes: Table, k: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A direction of the world in the frame of lobe ``k``, where it is the unit sphere."""
    return (
        lobes[k, 3] * x + lobes[k, 4] * y + lobes[k, 5] * z,
        lobes[k, 6] * x + lobes[k, 7] * y + lobes[k, 8] * z,
        lobes[k, 9] * x + lobes[k, 10] * y + lobes[k, 11] * z,
    )


@inlined
def _turned_back(lobes: Table, k: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A normal of the unit sphere as a unit normal of the world."""
    nx = lobes[k, 3] * x + lobes[k, 6] * y + lobes[k, 9] * z
    ny = lobes[k, 4] * x + lobes[k, 7] * y + lobes[k, 10] * z
    nz = lobes[k, 5] * x + lobes[k, 8] * y + lobes[k, 11] * z
    scale = _ONE / math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * scale, ny * scale, nz * scale


@inlined
def _dot(a: tuple[float, float, float], x: float, y: float, z: float) -> float:
    return a[0] * x + a[1] * y + a[2] * z


@kernel
def paint_polyps(
    out: ImageBgr, cover: Bytes, depth: Table, spans: npt.NDArray[np.int32], scope: Scope, ways: Table, lobes: Table,
    boxes: npt.NDArray[np.int32], pixel_angle: float, mips: Words, colours: Words, noise: Noise,
    noise_at: int, exposure: float,
) -> None:  # fmt: skip
    """Draw all lobes where they are nearer than what ``depth`` holds.

    Args:
        out: (H, W, 3) uint8 BGR, the painted wall.
        cover: (H, W), raised to the share of the pixel that is polyp, 0 to 255.
        depth: (H, W) float32, 1 / distance; kept up to date.
        spans: (H, 2), first and past-last column of each row.
        scope, ways: as for the wall.
        lobes: (n, LOBE_COLUMNS), see ``phantom_plan.py``.
        boxes: (n, 4) top, left, past-bottom, past-right: where each lobe can be.
        pixel_angle: angle between neighbouring pixels, radians.
        mips, colours, noise, noise_at, exposure: as for the wall.
    """
    ox, oy, oz = scope.origin[0], scope.origin[1], scope.origin[2]
    for k in range(lobes.shape[0]):
        radius, lump = lobes[k, 12], lobes[k, 13]
        a, b, c = lobes[k, 14], lobes[k, 15], lobes[k, 16]
        cx, cy, cz = _turned(lobes, k, ox - lobes[k, 0], oy - lobes[k, 1], oz - lobes[k, 2])
        for y in range(boxes[k, 0], boxes[k, 2]):
            for x in range(max(boxes[k, 1], spans[y, 0]), min(boxes[k, 3], spans[y, 1])):
                _, _, _, dx, dy, dz = ray_at(scope, ways, y, x)
                ux, uy, uz = _turned(lobes, k, dx, dy, dz)
                per_t = ux * ux + uy * uy + uz * uz
                nearest = -(cx * ux + cy * uy + cz * uz) / per_t
                mx, my, mz = cx + nearest * ux, cy + nearest * uy, cz + nearest * uz
                away2 = mx * mx + my * my + mz * mz
                if nearest <= _ZERO or away2 > F(1.5):
                    continue
                # The lumps' height where a smooth sphere would be met says how far out the surface really is.
                back = math.sqrt(max(_ONE - away2, _ZERO) / per_t)
                height, _, _, _ = _lumps(mx - back * ux, my - back * uy, mz - back * uz, a, b, c)
                reach = _ONE + lump * height
                pixel = nearest * pixel_angle * math.sqrt(per_t)
                share = (reach - math.sqrt(away2)) / pixel + F(0.5)
                if share <= _ZERO:
                    continue
                back = math.sqrt(max(reach * reach - away2, _ZERO) / per_t)
                t = nearest - back
                gap = (_ONE / max(depth[y, x], F(1e-3)) - t) / radius
                share = min(min(share, gap * F(12) + F(0.5)), _ONE)
                if t <= F(0.02) or share <= _ZERO:
                    continue
                qx, qy, qz = mx - back * ux, my - back * uy, mz - back * uz
                _, gx, gy, gz = _lumps(qx, qy, qz, a, b, c)
                nx, ny, nz = _turned_back(lobes, k, qx - lump * gx, qy - lump * gy, qz - lump * gz)
                facing = max(-(nx * dx + ny * dy + nz * dz), F(0.05))
                # Stereographic from the foot: no seam, and nothing stretched.
                wide = radius * _TEXELS_PER_UNIT / (F(1.25) + max(qz, F(-0.9)))
                blood, wet, relief_x, relief_y = texel(
                    mips, 0, qx * wide + (a + F(8)) * F(160), qy * wide + (b + F(8)) * F(160)
                )
                slope_x = _dot(scope.right, nx, ny, nz) / facing
                slope_y = _dot(scope.down, nx, ny, nz) / facing
                groove = F(0.45) + F(0.55) * min(max(gap, _ZERO) * F(1.8), _ONE)
                light = (F(0.08) + F(0.92) * facing) * groove * ways[y, x, 2] / (t * t + F(0.14))
                bump = relief_x * slope_x + relief_y * slope_y
                light *= _ONE + F(0.6) * min(max(bump, F(-0.7)), F(0.7))
                level = tone(light * exposure * F(1.06))
                white = glint(min(wet + 60, 255), slope_x + relief_x, slope_y + relief_y, level)
                red = F(PLAIN_BLOOD * 4) + lobes[k, 17] * F(4) + F(1.9) * (F(blood) - F(PLAIN_BLOOD * 4))
                row = int(min(max(red, F(44)), F(250))) >> 2
                under = (out[y, x, 0], out[y, x, 1], out[y, x, 2])
                put(out, y, x, int(colours[U(row), U(int(level))]), white, noise, noise_at)
                for channel in range(3):
                    mixed = share * F(out[y, x, channel]) + (_ONE - share) * F(under[channel])
                    out[y, x, channel] = np.uint8(mixed)
                left = _ONE - F(cover[y, x]) * F(1 / 255)
                cover[y, x] = np.uint8(F(255.5) * (_ONE - left * (_ONE - share)))
                if share > F(0.5):
                    depth[y, x] = max(depth[y, x], _ONE / t)
