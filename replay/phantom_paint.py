"""Numba kernels that paint the wall: texture, relief, colour, wet highlights, sensor noise.

Separate from the geometry in ``phantom_wall.py``. Rays are traced at the nodes of an 8-pixel grid. A cell whose
corners agree is filled by interpolation; another is cut into four, and of those the ones that a fold's edge runs
through are painted ray by ray. Polyps come on top (``phantom_polyp.py``).
"""

import numpy as np
import numpy.typing as npt

from endostream.pipeline.frame import ImageBgr

from .phantom_scene import Table
from .phantom_texture import LEVELS, TILE_PX, Words
from .phantom_wall import F, Look, Noise, Scope, U, inlined, kernel, ray_at, shade, shadow, trace

CELL_PX = 8
"""Side of a grid cell in pixels."""
NODE_COLUMNS = 7
"""Columns of a node: 1 / distance, the five of a Look, number of the fold behind."""
_HALF_CELL = CELL_PX // 2
_ONE, _ZERO = F(1), F(0)
_TILE = F(TILE_PX)
_NOISE_MASK = 2**18 - 1


@inlined
def _look_at(
    scope: Scope, ways: Table, rows: Table, ridges: Table, lobes: Table, stretch: float, y: int, x: int
) -> tuple[float, Look, int, float]:
    """Trace one pixel: 1 / distance, look, fold, and its light as if there were no polyp."""
    ray = ray_at(scope, ways, y, x)
    t, fold = trace(rows, ridges, scope, ray)
    u, v, light, around, along = shade(rows, stretch, ray, t, ways[y, x, 2])
    return _ONE / t, (u, v, light * shadow(lobes, ray, t), around, along), fold, light


@inlined
def _set_node(nodes: Table, j: int, i: int, near: float, look: Look, fold: int) -> None:
    nodes[j, i, 0], nodes[j, i, 1], nodes[j, i, 2] = near, look[0], look[1]
    nodes[j, i, 3], nodes[j, i, 4], nodes[j, i, 5] = look[2], look[3], look[4]
    nodes[j, i, 6] = F(fold)


@kernel
def trace_nodes(
    nodes: Table, scope: Scope, ways: Table, rows: Table, ridges: Table, lobes: Table,
    stretch: float,
) -> float:  # fmt: skip
    """Fill ``nodes`` (ny, nx, NODE_COLUMNS); answers the mean tone in [0, 1] without polyps, for the exposure.

    Args:
        nodes: filled.
        scope: see Scope.
        ways: (H + 8, W + 8, 3) float32 unit directions of the pixels: right, down, ahead.
        rows: of the Colon, as ``ridges`` and ``stretch`` are.
        ridges: depths of the folds.
        lobes: of the polyps there are.
        stretch: length along the wall over length of the axis.
    """
    total = 0.0
    for j in range(nodes.shape[0]):
        for i in range(nodes.shape[1]):
            y, x = j * CELL_PX, i * CELL_PX
            near, look, fold, light = _look_at(scope, ways, rows, ridges, lobes, stretch, y, x)
            _set_node(nodes, j, i, near, look, fold)
            total += light / (light + _ONE)
    return float(total / (nodes.shape[0] * nodes.shape[1]))


@inlined
def _gather(nodes: Table, j: int, i: int, corners: Table) -> bool:
    """Copy a cell's four nodes, the tube's seam smoothed out; whether interpolation may stand for rays in it."""
    same, low, high = True, F(1e9), F(0)
    for k in range(4):
        down, over = k >> 1, k & 1
        for c in range(NODE_COLUMNS):
            corners[k, c] = nodes[j + down, i + over, c]
        apart = corners[k, 1] - corners[0, 1]
        turns = F(0)
        if apart > _TILE:
            turns = F(-1)
        elif apart < -_TILE:
            turns = F(1)
        corners[k, 1] += turns * F(2) * _TILE
        corners[k, 2] += turns * _TILE
        same = same and corners[k, 6] == corners[0, 6]
        low, high = min(low, corners[k, 0]), max(high, corners[k, 0])
    bend = abs(corners[0, 0] + corners[3, 0] - corners[1, 0] - corners[2, 0])
    if same:
        return high < F(1.35) * low and bend < F(0.05) * high
    return high < F(1.06) * low


@inlined
def _mip(corners: Table, size: int) -> int:
    """The tile's size to use: at most about 1.4 texels a pixel."""
    wide = max(abs(corners[1, 1] - corners[0, 1]), abs(corners[1, 2] - corners[0, 2]))
    high = max(abs(corners[2, 1] - corners[0, 1]), abs(corners[2, 2] - corners[0, 2]))
    texels = (wide + high) * F(0.5) / F(size)
    level = 0
    while texels > F(1.4) and level < LEVELS - 1:
        texels *= F(0.5)
        level += 1
    return level


@inlined
def texel(mips: Words, level: int, u: float, v: float) -> tuple[int, int, float, float]:
    """Blood and wetness (0 to 255) and the two relief slopes at texel (u, v), interpolated; u and v not negative.

    Two bytes are weighted at once in one integer, weights of 8 bits.
    """
    side = TILE_PX >> level
    base = (TILE_PX * TILE_PX - side * side) // 3 * 4
    scale = F(side * 256) * F(1 / TILE_PX)
    u256, v256 = int(u * scale), int(v * scale)
    p, q = u256 & 255, v256 & 255
    x0, x1 = (u256 >> 8) & (side - 1), ((u256 >> 8) + 1) & (side - 1)
    y0, y1 = base + ((v256 >> 8) & (side - 1)) * side, base + (((v256 >> 8) + 1) & (side - 1)) * side
    a, b = int(mips[U(y0 + x0)]), int(mips[U(y0 + x1)])
    c, d = int(mips[U(y1 + x0)]), int(mips[U(y1 + x1)])
    wb, wc, wd = (p * (256 - q)) >> 8, ((256 - p) * q) >> 8, (p * q) >> 8
    wa = 256 - wb - wc - wd
    pair = 0xFF00FF
    even = ((a & pair) * wa + (b & pair) * wb + (c & pair) * wc + (d & pair) * wd) >> 8
    a, b, c, d = a >> 8, b >> 8, c >> 8, d >> 8
    odd = ((a & pair) * wa + (b & pair) * wb + (c & pair) * wc + (d & pair) * wd) >> 8
    around, along = F(((even >> 16) & 255) - 128), F(((odd >> 16) & 255) - 128)
    return even & 255, odd & 255, around * F(0.01), along * F(0.01)


@inlined
def tone(light: float) -> float:
    """Light level in [0, 255] for the colour table; rises ever slower, as a camera's knee does."""
    light = max(light, _ZERO)
    return F(255.9) * light / (light + _ONE)


@inlined
def glint(wet: int, ex: float, ey: float, level: float) -> int:
    """Share of white, 0 to 256, where relief and view slopes differ by (ex, ey): a mirror image of the light."""
    reach = F(wet * wet) * F(0.95e-6)
    sharp = (reach - ex * ex - ey * ey) * F(60 * 256)
    return int(min(max(sharp, _ZERO), F(256)) * min(level * F(1 / 80), _ONE))


@inlined
def put(out: ImageBgr, y: int, x: int, colour: int, white: int, noise: Noise, noise_at: int) -> None:
    """Write one pixel: packed BGR ``colour`` with its share of white (of 256) and the sensor's noise."""
    at = noise_at + 3 * (y * out.shape[1] + x)
    for c in range(3):
        value = (colour >> (8 * c)) & 255
        value += ((255 - value) * white) >> 8
        value += int(noise[U((at + c) & _NOISE_MASK)])
        out[y, x, c] = np.uint8(min(max(value, 0), 255))


@inlined
def _paint(
    out: ImageBgr, y: int, x: int, look: Look, mip: int, mips: Words, colours: Words, noise: Noise,
    noise_at: int, exposure: float,
) -> None:  # fmt: skip
    u, v, light, view_around, view_along = look
    blood, wet, around, along = texel(mips, mip, u, v)
    relief = _ONE - F(0.45) * min(max(around * view_around + along * view_along, F(-0.8)), F(0.8))
    level = tone(light * exposure * relief)
    white = glint(wet, view_around - around, view_along - along, level)
    put(out, y, x, int(colours[U(blood >> 2), U(int(level))]), white, noise, noise_at)


@inlined
def _edge(corners: Table, column: int, down: float, step: float) -> tuple[float, float]:
    """Value at the cell's left edge, ``down`` of the way, and its step a pixel to the right."""
    left = corners[0, column] + down * (corners[2, column] - corners[0, column])
    right = corners[1, column] + down * (corners[3, column] - corners[1, column])
    return left, (right - left) * step


@kernel
def _fill_cell(
    out: ImageBgr, depth: Table, corners: Table, spans: npt.NDArray[np.int32], y0: int, x0: int, size: int,
    mips: Words, colours: Words, noise: Noise, noise_at: int, exposure: float,
) -> None:  # fmt: skip
    """Paint a smooth cell by interpolation between its corners."""
    mip = _mip(corners, size)
    step = _ONE / F(size)
    for y in range(y0, min(y0 + size, out.shape[0])):
        down = F(y - y0) * step
        d, dd = _edge(corners, 0, down, step)
        u, du = _edge(corners, 1, down, step)
        v, dv = _edge(corners, 2, down, step)
        light, dlight = _edge(corners, 3, down, step)
        around, daround = _edge(corners, 4, down, step)
        along, dalong = _edge(corners, 5, down, step)
        for x in range(max(x0, spans[y, 0]), min(x0 + size, spans[y, 1])):
            n = F(x - x0)
            depth[y, x] = d + n * dd
            look = (u + n * du, v + n * dv, light + n * dlight, around + n * daround, along + n * dalong)
            _paint(out, y, x, look, mip, mips, colours, noise, noise_at, exposure)


@kernel
def paint_wall(
    out: ImageBgr, depth: Table, nodes: Table, spans: npt.NDArray[np.int32], scope: Scope, ways: Table, rows: Table,
    ridges: Table, lobes: Table, stretch: float, mips: Words, colours: Words, noise: Noise,
    noise_at: int, exposure: float,
) -> None:  # fmt: skip
    """Paint every pixel within ``spans``; its 1 / distance goes to ``depth``.

    Args:
        out: (H, W, 3) uint8 BGR.
        depth: (H, W) float32.
        nodes: as ``trace_nodes`` left them; it also says what the next five are.
        spans: (H, 2), first and past-last column of each row.
        scope, ways, rows, ridges, lobes, stretch: as there.
        mips: uint32 texels, blood in the lowest byte, then wetness, relief around, relief along.
        colours: (64, 256) uint32, BGR from the lowest byte.
        noise: (2^18,) int8.
        noise_at: where in it this frame begins.
        exposure: factor on the light.
    """
    corners = np.empty((4, NODE_COLUMNS), np.float32)
    fine = np.empty((3, 3, NODE_COLUMNS), np.float32)
    for j in range(nodes.shape[0] - 1):
        y0 = j * CELL_PX
        for i in range(nodes.shape[1] - 1):
            x0 = i * CELL_PX
            if not _touches(spans, y0, min(y0 + CELL_PX, out.shape[0]), x0):
                continue
            if _gather(nodes, j, i, corners):
                _fill_cell(
                    out, depth, corners, spans, y0, x0, CELL_PX, mips, colours, noise, noise_at, exposure
                )
                continue
            # A fold's edge: cut into quarters, the smooth ones filled, the others painted ray by ray.
            for k in range(9):
                y, x = y0 + k // 3 * _HALF_CELL, x0 + k % 3 * _HALF_CELL
                near, look, fold, _ = _look_at(scope, ways, rows, ridges, lobes, stretch, y, x)
                _set_node(fine, k // 3, k % 3, near, look, fold)
            for k in range(4):
                y1, x1 = y0 + k // 2 * _HALF_CELL, x0 + k % 2 * _HALF_CELL
                if _gather(fine, k // 2, k % 2, corners):
                    _fill_cell(
                        out,
                        depth,
                        corners,
                        spans,
                        y1,
                        x1,
                        _HALF_CELL,
                        mips,
                        colours,
                        noise,
                        noise_at,
                        exposure,
                    )
                    continue
                mip = _mip(corners, _HALF_CELL)
                for y in range(y1, min(y1 + _HALF_CELL, out.shape[0])):
                    for x in range(max(x1, spans[y, 0]), min(x1 + _HALF_CELL, spans[y, 1])):
                        near, look, fold, _ = _look_at(scope, ways, rows, ridges, lobes, stretch, y, x)
                        depth[y, x] = near
                        _paint(out, y, x, look, mip, mips, colours, noise, noise_at, exposure)


@inlined
def _touches(spans: npt.NDArray[np.int32], y0: int, y1: int, x0: int) -> bool:
    """Whether a cell has a pixel within the spans."""
    found = False
    for y in range(y0, y1):
        found = found or (x0 + CELL_PX > spans[y, 0] and x0 < spans[y, 1])
    return found
