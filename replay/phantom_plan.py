"""Which polyps the phantom has and when: placed on the wall where the scope will pass, with gaps that have none.

Separate from the colon, which has no time. A polyp is a few lumpy ellipsoids; this file makes their numbers, and
``phantom_polyp.py`` draws them.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from .phantom_path import Landmark, ScopePath
from .phantom_scene import Colon, Table, Vector

LOBE_COLUMNS = 19
"""Columns of a lobe: centre 3, world-to-unit-sphere 3 × 3, mean radius, lump height, lump phase 3, redness,
largest radius."""
SEEN_AHEAD = 2.3
"""How far ahead of the scope a polyp begins to be there; beyond it would be a few dark pixels."""
LEFT_BEHIND = 0.45
"""How far behind the scope a polyp has certainly left the picture."""
GROWTH_S = 0.6
"""Seconds in which a polyp far ahead grows to its size, so that it does not pop up."""
HORIZON_S = 40.0
"""Longest time the scope takes past a polyp."""


@dataclass(frozen=True, slots=True)
class Polyp:
    """One polyp on the wall: base point, normal, radius in units, and what it looks like."""

    base: Vector
    normal: Vector
    radius: float
    stalked: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A stretch of time in which polyps are there; between visits there are none."""

    begin_s: float
    end_s: float
    polyps: tuple[Polyp, ...]

    @property
    def sight(self) -> Landmark:
        """What the scope looks at: the first polyp."""
        first = self.polyps[0]
        return Landmark(first.base + first.normal * first.radius, first.normal)


class PolypPlan:
    """The visits of a run, made one after another as they are asked for; not safe for threads."""

    def __init__(self, seed: int, colon: Colon, path: ScopePath) -> None:
        self._seed, self._colon, self._path = seed, colon, path
        self._visits: list[Visit] = []

    @property
    def none(self) -> Table:
        """No lobe."""
        return np.zeros((0, LOBE_COLUMNS), np.float32)

    def visit_at(self, time_s: float) -> Visit | None:
        """The visit that ``time_s`` lies in, or None: no polyp then."""
        while not self._visits or self._visits[-1].end_s < time_s:
            self._visits.append(self._next_visit())
        number = bisect_right(self._visits, time_s, key=lambda visit: visit.begin_s) - 1
        if number < 0 or time_s >= self._visits[number].end_s:
            return None
        return self._visits[number]

    def lobes(self, time_s: float, behind: float = 0.0) -> Table:
        """The ellipsoids there are at ``time_s``: (count, LOBE_COLUMNS) float32, count 0 where there is no polyp.

        ``behind`` is taken off their depths, so that float32 is fine enough far along.
        """
        visit = self.visit_at(time_s)
        if visit is None:
            return self.none
        part = min(1.0, (time_s - visit.begin_s) / GROWTH_S)
        size = part * part * (3 - 2 * part)
        rows = np.array([row for polyp in visit.polyps for row in _lobes(polyp, size, time_s)])
        rows[:, 2] -= behind
        return rows.astype(np.float32)

    def _next_visit(self) -> Visit:
        number = len(self._visits)
        rng = np.random.default_rng((self._seed, 7, number))
        free_from = self._visits[-1].end_s if self._visits else 0.0
        begin = free_from + rng.uniform(0.8, 2.2)
        ridge = self._colon.ridge_near(float(self._path.z(np.asarray(begin))) + SEEN_AHEAD * 0.9)
        polyps = self._polyps(rng, ridge)
        times = begin + np.arange(0, HORIZON_S, 0.04)
        depth = self._path.z(times)
        far = max(p.base[2] for p in polyps)
        near = np.flatnonzero(depth < far + LEFT_BEHIND)
        start = np.flatnonzero(depth > far - SEEN_AHEAD)
        return Visit(float(times[start[0]]), float(times[near[-1]]) + 0.04, polyps)

    def _polyps(self, rng: np.random.Generator, ridge: float) -> tuple[Polyp, ...]:
        found = []
        angle = rng.uniform(0, 2 * np.pi)
        for k in range(int(rng.choice([1, 1, 2]))):
            on_fold = rng.uniform() < 0.6
            z = ridge - (rng.uniform(0.03, 0.1) if on_fold else rng.uniform(0.25, 0.45))
            base, normal = self._colon.wall(z, angle + k * rng.uniform(1.0, 2.4))
            stalked = bool(rng.uniform() < 0.4)
            # What stands far into the lumen is smaller, so that the scope can pass.
            largest = 0.26 if stalked else 0.35 if on_fold else 0.45
            radius = float(np.exp(rng.uniform(np.log(0.15), np.log(largest)))) * (1.0 if k == 0 else 0.65)
            found.append(Polyp(base, normal, radius, stalked, int(rng.integers(2**31))))
        return tuple(found)


def _frame(normal: Vector, spin: float) -> Vector:
    """Rows: two directions along the wall, then the normal."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(normal[2]) < 0.8 else np.array([1.0, 0.0, 0.0])
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    return np.stack(
        [np.cos(spin) * first + np.sin(spin) * second, np.cos(spin) * second - np.sin(spin) * first, normal]
    )


def _lobe(
    centre: Vector, axes: Vector, frame: Vector, lump: float, rng: np.random.Generator, red: float
) -> Vector:
    row = np.zeros(LOBE_COLUMNS)
    row[0:3], row[3:12] = centre, (frame / axes[:, None]).ravel()
    row[12], row[13], row[14:17] = axes.mean(), lump, rng.uniform(0, 2 * np.pi, 3)
    row[17], row[18] = red, axes.max() * (1 + lump)
    return row


def _lobes(polyp: Polyp, size: float, time_s: float) -> list[Vector]:
    """The ellipsoids of one polyp, ``size`` in [0, 1] of its full growth."""
    rng = np.random.default_rng(polyp.seed)
    radius = max(polyp.radius * size, 1e-3)
    frame = _frame(polyp.normal, rng.uniform(0, np.pi))
    red = rng.uniform(-3.0, 15.0)
    if polyp.stalked:
        return _stalked(polyp, radius, frame, red, time_s, rng)
    flat = rng.uniform(0.5, 0.95)
    axes = radius * np.array([rng.uniform(0.9, 1.15), rng.uniform(0.75, 1.0), flat])
    lobes = [_lobe(polyp.base + polyp.normal * radius * 0.22, axes, frame, 0.09, rng, red)]
    for _ in range(int(rng.integers(0, 3))):
        turn, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.7)
        shift = frame[0] * np.cos(turn) + frame[1] * np.sin(turn)
        place = polyp.base + radius * (0.62 * shift + 0.2 * polyp.normal)
        lobes.append(_lobe(place, axes * share, frame, 0.07, rng, red))
    return lobes


def _stalked(
    polyp: Polyp, radius: float, frame: Vector, red: float, time_s: float, rng: np.random.Generator
) -> list[Vector]:
    """Head and stalk; the head swings a little as the scope goes by."""
    swing = 0.25 * np.sin(1.7 * time_s + rng.uniform(0, 6)) * frame[0]
    lean = polyp.normal + swing + rng.uniform(-0.3, 0.3) * frame[1]
    lean /= np.linalg.norm(lean)
    tilted = _frame(lean, 0.4)
    head = _lobe(
        polyp.base + lean * radius * 1.75,
        radius * np.array([0.95, 0.85, 0.8]),
        tilted,
        0.1,
        rng,
        red + 4.0,
    )
    stalk = _lobe(
        polyp.base + lean * radius * 0.6, radius * np.array([0.4, 0.36, 1.3]), tilted, 0.03, rng, -6.0
    )
    return [stalk, head]
