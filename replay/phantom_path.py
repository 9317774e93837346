"""The phantom's scope: where it is and where it looks, as a function of time alone.

Separate from the anatomy it moves through. Ahead with pauses and steps back, the gaze along the bending lumen plus
what a hand does, quick looks aside, and a longer look at a polyp that comes near.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .phantom_scene import PERIOD, Colon, Vector


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the scope is: origin (x, y, z) and rotation (rows: right, down, ahead)."""

    origin: Vector
    rotation: Vector


@dataclass(frozen=True, slots=True)
class Landmark:
    """Something on the wall worth looking at: where, and the wall's unit normal into the lumen."""

    place: Vector
    normal: Vector


class ScopePath:
    """The way of one scope through one colon."""

    JERK_EVERY_S = 3.1
    SPEED = 0.52
    """Units a second, on the whole."""

    def __init__(self, rng: np.random.Generator, colon: Colon) -> None:
        self._colon = colon
        self._seed = int(rng.integers(2**31))
        self._start = rng.uniform(0, PERIOD)
        self._phase = rng.uniform(0, 2 * np.pi, 16).tolist()
        self._jerk_in = lru_cache(maxsize=8)(self._make_jerk)

    def z(self, time_s: Vector) -> Vector:
        """Depth in the colon at each time, not reduced by PERIOD."""
        steps = 0.55 * np.sin(0.9 * time_s + self._phase[0]) + 0.12 * np.sin(2.3 * time_s + self._phase[1])
        return np.asarray(self._start + self.SPEED * time_s + steps)

    def pose(self, time_s: float, polyp: Landmark | None = None) -> Pose:
        """Where the scope is; ``polyp`` draws the gaze while it is near ahead."""
        z = float(self.z(np.asarray(time_s)))
        x, y = self._colon.way(z)
        origin = np.array(
            [x + 0.17 * self._sway(time_s, 2, 0.7, 1.9), y + 0.17 * self._sway(time_s, 4, 0.8, 1.6), z]
        )
        far_x, far_y = self._colon.way(z + 1.3)
        jerk_x, jerk_y = self._jerk(time_s)
        yaw = math.atan2(far_x - origin[0], 1.3) + 0.45 * self._sway(time_s, 6, 0.5, 1.3)
        pitch = math.atan2(far_y - origin[1], 1.3) + 0.45 * self._sway(time_s, 8, 0.6, 1.1)
        if polyp is not None:
            origin[:2] += _berth(float(polyp.place[2] - z), polyp.normal)
            yaw, pitch = _drawn_to(polyp.place - origin, yaw, pitch)
        roll = 0.6 * self._sway(time_s, 10, 0.23, 0.41)
        return Pose(origin, _rotation(yaw + jerk_x, pitch + jerk_y, roll))

    def _sway(self, time_s: float, first: int, slow: float, quick: float) -> float:
        return 0.5 * (
            math.sin(slow * time_s + self._phase[first]) + math.sin(quick * time_s + self._phase[first + 1])
        )

    def _make_jerk(self, slot: int) -> tuple[float, float, float]:
        rng = np.random.default_rng((self._seed, slot + 1))
        when, yaw, pitch = rng.uniform(0.6, self.JERK_EVERY_S - 0.6), *rng.uniform(-0.42, 0.42, 2)
        return float(when), float(yaw), float(pitch)

    def _jerk(self, time_s: float) -> tuple[float, float]:
        """A quick look aside now and then: yaw and pitch in radians."""
        slot = math.floor(time_s / self.JERK_EVERY_S)
        when, yaw, pitch = self._jerk_in(slot)
        away = (time_s - slot * self.JERK_EVERY_S - when) / 0.2
        part = math.exp(-away * away)
        return yaw * part, pitch * part


def smear(before: Pose, middle: Pose, after: Pose) -> Vector:
    """How far the gaze moved over the picture from one pose to another: right and down, in radians."""
    return np.asarray(middle.rotation[:2] @ (after.rotation[2] - before.rotation[2]))


def _smooth(x: float, low: float, high: float) -> float:
    """0 below ``low``, 1 above ``high``, smooth between."""
    part = min(max((x - low) / (high - low), 0.0), 1.0)
    return part * part * (3 - 2 * part)


def _berth(ahead: float, normal: Vector) -> Vector:
    """How far aside, away from its wall, the scope passes a polyp that is ``ahead`` of it, so as not to touch it."""
    near = math.exp(-((ahead / 0.7) ** 2)) * _smooth(ahead, -0.4, 0.1)
    return np.asarray(0.27 * near * normal[:2])


def _drawn_to(way: Vector, yaw: float, pitch: float) -> tuple[float, float]:
    """Gaze between where it was and a polyp at ``way`` from the scope; the polyp stays somewhat off the middle."""
    pull = 0.75 * _smooth(way[2], 0.0, 0.6) * (1 - _smooth(way[2], 1.0, 1.6))
    ahead = max(float(way[2]), 0.15)
    to_yaw, to_pitch = math.atan2(way[0], ahead), math.atan2(way[1], ahead)
    return yaw + pull * (to_yaw - yaw), pitch + pull * (to_pitch - pitch)


def _rotation(yaw: float, pitch: float, roll: float) -> Vector:
    # Yaw and pitch as tangents, kept short of a right angle.
    ahead = np.array([math.tan(min(max(yaw, -1.2), 1.2)), math.tan(min(max(pitch, -1.2), 1.2)), 1.0])
    ahead /= math.sqrt(float(ahead @ ahead))
    aside = np.array([math.cos(roll), -math.sin(roll), 0.0])
    right = aside - float(aside @ ahead) * ahead
    right /= math.sqrt(float(right @ right))
    return np.stack([right, np.cross(ahead, right), ahead])
