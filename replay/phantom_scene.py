"""The phantom's anatomy: the wall of a colon that has folds and bends, as a table by depth.

Separate from the kernels that draw it (``phantom_wall.py``) and from all that moves (``phantom_path.py``,
``phantom_plan.py``). It knows nothing of pixels. One unit of length is the colon's radius, some 25 mm.
"""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Table = npt.NDArray[np.float32]

PERIOD = 24.0
"""Length after which the colon repeats itself."""
ROWS = 1024
"""Rows of the wall table over one period."""
TEXTURES_PER_PERIOD = 8
"""How many texture tiles lie along one period at stretch 1."""
HARMONICS = 7
"""Columns of the radius: r0, then cosine and sine of 1, 2 and 3 times the angle."""


class Colon:
    """The wall: radius by angle and depth, centre line, and where the folds (ridges) are.

    Attributes:
        rows: (ROWS, 19) float32: 7 radius harmonics, centre x and y, the same nine differentiated by z, and by how
            much the length along the wall runs ahead of z, in units (so that texture is not stretched on folds).
        stretch: length along the wall over length of the axis.
        ridge_z: float32, increasing, one period before to two after.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        z: Vector = np.linspace(0.0, PERIOD, ROWS, endpoint=False)
        ridges = _ridge_places(rng)
        columns = np.zeros((ROWS, HARMONICS + 2))
        leans = np.zeros((ROWS, 2))
        columns[:, :HARMONICS] = _haustra(rng, z)
        for place in ridges:
            fold = _fold(rng, z, place)
            columns[:, :HARMONICS] += fold
            leans += _spread(fold[:, 1:3])
        columns[:, HARMONICS:] = _centre_line(rng, z)
        self._way = columns[:, HARMONICS:] + leans
        ahead, behind = np.roll(columns, -1, axis=0), np.roll(columns, 1, axis=0)
        slopes = (ahead - behind) / (2 * PERIOD / ROWS)
        along = np.cumsum(np.hypot(1.0, slopes[:, 0])) * (PERIOD / ROWS)
        turns = np.round(along[-1] / PERIOD * TEXTURES_PER_PERIOD) / TEXTURES_PER_PERIOD
        ahead_of_z = along * (turns * PERIOD / along[-1]) - turns * z
        self.rows: Table = np.ascontiguousarray(
            np.column_stack([columns, slopes, ahead_of_z]), dtype=np.float32
        )
        self.stretch = float(turns)
        self.ridge_z: Table = np.concatenate([ridges + k * PERIOD for k in (-1, 0, 1, 2)]).astype(np.float32)

    def _row(self, z: float) -> Vector:
        place = (z / PERIOD * ROWS) % ROWS
        low, part = int(place), place % 1.0
        row: Vector = (1 - part) * self.rows[low] + part * self.rows[(low + 1) % ROWS].astype(np.float64)
        return row

    def way(self, z: float) -> tuple[float, float]:
        """Where the lumen is most open at depth ``z``: x, y."""
        place = (z / PERIOD * ROWS) % ROWS
        low, part = int(place), place % 1.0
        (ax, ay), (bx, by) = self._way[low], self._way[(low + 1) % ROWS]
        return float(ax + part * (bx - ax)), float(ay + part * (by - ay))

    def wall(self, z: float, angle: float) -> tuple[Vector, Vector]:
        """Point of the wall at depth and angle, and the unit normal into the lumen."""
        row = self._row(z)
        orders = np.arange(1, 4)
        waves = np.concatenate([[1.0], np.stack([np.cos(orders * angle), np.sin(orders * angle)], 1).ravel()])
        turned = np.concatenate(
            [[0.0], np.stack([-orders * np.sin(orders * angle), orders * np.cos(orders * angle)], 1).ravel()]
        )
        radius = float(row[:HARMONICS] @ waves)
        out, along = (
            np.array([np.cos(angle), np.sin(angle), 0.0]),
            np.array([-np.sin(angle), np.cos(angle), 0.0]),
        )
        slope = float(row[9 : 9 + HARMONICS] @ waves + row[16] * out[0] + row[17] * out[1])
        normal = -out + along * float(row[:HARMONICS] @ turned) / radius + np.array([0.0, 0.0, slope])
        point = np.array([*row[HARMONICS : HARMONICS + 2], z]) + radius * out
        return point, normal / np.linalg.norm(normal)

    def ridge_near(self, z: float) -> float:
        """Depth of the first fold at or after ``z``."""
        turns = np.floor(z / PERIOD) * PERIOD
        return float(turns + self.ridge_z[np.searchsorted(self.ridge_z, z - turns)])


def _ridge_places(rng: np.random.Generator) -> Vector:
    gaps = rng.uniform(0.75, 1.35, 24)
    ends = np.cumsum(gaps / gaps.sum() * PERIOD)
    return np.asarray(ends - ends[0] / 2)


def _wave(rng: np.random.Generator, z: Vector, sizes: tuple[float, ...]) -> Vector:
    """Sum of periodic waves; ``sizes`` are the amplitudes of 1, 2, 3 … periods."""
    total = np.zeros_like(z)
    for order, size in enumerate(sizes, 1):
        total += size * np.sin(2 * np.pi * order * z / PERIOD + rng.uniform(0, 2 * np.pi))
    return total


def _haustra(rng: np.random.Generator, z: Vector) -> Vector:
    """Radius between the folds: round with three flat sides (the taeniae), slowly turning."""
    columns = np.zeros((z.size, HARMONICS))
    columns[:, 0] = 1.0 + _wave(rng, z, (0.04, 0.0, 0.05, 0.0, 0.04))
    columns[:, 3] = _wave(rng, z, (0.0, 0.05, 0.04, 0.03))
    columns[:, 4] = _wave(rng, z, (0.0, 0.05, 0.04, 0.03))
    turn = 3 * _wave(rng, z, (0.5, 0.3))
    columns[:, 5], columns[:, 6] = 0.06 * np.cos(turn), 0.06 * np.sin(turn)
    return columns


def _fold(rng: np.random.Generator, z: Vector, place: float) -> Vector:
    """One fold: a thin ridge inward, higher on one side (semilunar), with a rounded triangle as its mouth."""
    away = (z - place + PERIOD / 2) % PERIOD - PERIOD / 2
    height, thickness = rng.uniform(0.2, 0.46), rng.uniform(0.07, 0.12)
    side, corner = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    lean, oval, three = rng.uniform(0.1, 0.75), rng.uniform(0.0, 0.25), rng.uniform(0.08, 0.3)
    height = min(height, 0.56 / (1 + oval + three))
    ridge = -height * (1 + (away / thickness) ** 2) ** -1.2
    shape = [1.0, lean * np.cos(side), lean * np.sin(side), oval * np.cos(corner), oval * np.sin(corner)]
    return np.outer(ridge, [*shape, three * np.cos(3 * side), three * np.sin(3 * side)])


def _spread(lean: Vector) -> Vector:
    """How far aside the mouth of a leaning fold lies, as a gentle bend of the way through it."""
    rate = np.fft.rfftfreq(ROWS, PERIOD / ROWS)[:, None]
    soft = np.fft.irfft(np.fft.rfft(lean, axis=0) * np.exp(-((rate * 2.2) ** 2)), ROWS, axis=0)
    peak = float(np.abs(soft).max())
    return np.asarray(soft * (float(np.abs(lean).max()) / max(peak, 1e-9)))


def _centre_line(rng: np.random.Generator, z: Vector) -> Vector:
    sizes = (1.2, 0.6, 0.3, 0.12, 0.06)
    return np.stack([_wave(rng, z, sizes), _wave(rng, z, sizes)], axis=1)
