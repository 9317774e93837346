"""Renders the phantom: any frame by its number, with its mask.

Brings together anatomy (``phantom_scene.py``), motion (``phantom_path.py``), polyps (``phantom_plan.py``), surface
(``phantom_texture.py``), drawing (``phantom_wall.py``, ``phantom_paint.py``, ``phantom_polyp.py``) and field of view
(``phantom_field.py``), and is separate from them because only it knows picture sizes and times together.

The same seed and settings give the same bytes on one machine with one set of library versions, in any order of
rendering; another processor may round a few values differently. One Phantom serves one thread.
"""

import math
from fractions import Fraction

import cv2
import numpy as np

from endostream.models.segmenter import Mask
from endostream.pipeline.frame import ImageBgr

from .phantom_field import (
    clear_outside,
    clip_mask,
    field_box,
    field_spans,
    half_view_rad,
    lens,
    lobe_boxes,
    scaled_spans,
)
from .phantom_paint import CELL_PX, NODE_COLUMNS, paint_wall, trace_nodes
from .phantom_path import Pose, ScopePath, smear
from .phantom_plan import PolypPlan
from .phantom_polyp import paint_polyps
from .phantom_scene import PERIOD, Colon, Table, Vector
from .phantom_settings import PhantomSettings
from .phantom_texture import Words, label_patch, surface
from .phantom_wall import F, Noise, Point, Scope, depth_inside

Paint = tuple[Words, Words, Noise, int, float]
"""Texture, colours, noise, where in the noise the frame begins, exposure: as the kernels take them."""
DRAWN_PX = 110_000
"""Pixels of the field that are drawn at least; more are drawn smaller and scaled up."""
DRAWN_SHARE = 0.15
"""Share of a large field's pixels that is drawn."""
SHUTTER_S = 1 / 75
MARGIN_PX = 6
"""How far beyond the field is drawn, for blur to draw from."""


class Phantom:
    """Renders frames of one phantom.

    Args:
        height: pixels.
        width: pixels.
        fps: frames a second; motion depends on time alone, so that another rate shows the same way.
        duration_s: seconds; frames are numbered 0 to ``frame_count`` - 1.
        seed: of scene, motion, polyps and noise.
        settings: all of them at once, in place of the others.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        height: int = 576,
        width: int = 720,
        fps: Fraction = Fraction(25),
        duration_s: float = 10.0,
        seed: int = 0,
        settings: PhantomSettings | None = None,
    ) -> None:
        self.settings = settings or PhantomSettings(width, height, fps, duration_s, seed)
        self._make_scene()
        self._surface = surface(self.settings.seed)
        self._make_buffers()
        self._draw(0)  # pays compilation and page faults now, not with the first picture

    def _make_scene(self) -> None:
        seed = self.settings.seed
        self._colon = Colon(np.random.default_rng((seed, 1)))
        self._path = ScopePath(np.random.default_rng((seed, 2)), self._colon)
        self._plan = PolypPlan(seed, self._colon, self._path)

    def _make_buffers(self) -> None:
        settings = self.settings
        box = self._box = field_box(settings.size_hw, settings.field)
        self._spans = field_spans(box, settings.field, settings.inset)
        self._size_hw = _drawn_size(box.height, box.width)
        height, width = self._size_hw
        self._drawn_spans = scaled_spans(self._spans, box.width, self._size_hw, MARGIN_PX)
        self._px_per_rad = height / 2 / half_view_rad(self._size_hw)
        self._ways = lens(self._size_hw, CELL_PX)
        shape = (-(-height // CELL_PX) + 1, -(-width // CELL_PX) + 1)
        self._nodes = np.zeros((*shape, NODE_COLUMNS), np.float32)
        self._image = np.zeros((height, width, 3), np.uint8)
        self._cover = np.zeros((height, width), np.uint8)
        self._depth = np.zeros((height, width), np.float32)
        lines = ["ENDOSTREAM", "PHANTOM", f"SEED {settings.seed}", f"{settings.width}X{settings.height}"]
        room = (settings.height // 4, box.left - box.left // 8) if settings.text else (0, 0)
        self._label = label_patch(lines, *room)

    @property
    def frame_count(self) -> int:
        """Frames it has."""
        return self.settings.frame_count

    def render(self, index: int, out: ImageBgr | None = None) -> tuple[ImageBgr, Mask]:
        """Frame ``index`` and its mask, the same bytes whatever was rendered before.

        The picture goes to ``out`` (height × width × 3, uint8 BGR) if given, else to a new array. The mask (height
        × width, bool) is True where polyps, with their stalks, make at least half of the pixel as shown, motion blur
        included.
        """
        if out is None:
            out = np.empty((*self.settings.size_hw, 3), np.uint8)
        drawn = self._draw(index)
        self._show(out)
        return out, self._mask(drawn)

    def render_image(self, index: int, out: ImageBgr) -> None:
        """Only the picture of frame ``index``, into ``out``."""
        self._draw(index)
        self._show(out)

    def truth(self, index: int) -> Mask:
        """Only the mask of frame ``index``."""
        return self._mask(self._draw(index))

    def has_polyp(self, index: int) -> bool:
        """Whether a polyp is about at frame ``index``; it may be hidden still. False: the mask is empty."""
        return self.settings.polyps and self._plan.visit_at(self._time_s(index)) is not None

    def _time_s(self, index: int) -> float:
        if not 0 <= index < self.frame_count:
            raise IndexError(f"frame: {index}; expected 0 to {self.frame_count - 1}")
        return float(index / self.settings.fps)

    def _draw(self, index: int) -> bool:
        """Draw the field at its drawn size, blurred as it is shown; answers whether there is anything to mask."""
        time_s = self._time_s(index)
        pose = self._pose(time_s)
        turns = math.floor(pose.origin[2] / PERIOD) * PERIOD
        origin = pose.origin - np.array([0.0, 0.0, turns])
        lobes = self._plan.lobes(time_s, turns) if self.settings.polyps else self._plan.none
        scope = self._scope(origin, pose)
        wall = (scope, self._ways, self._colon.rows, self._colon.ridge_z, lobes, F(self._colon.stretch))
        mean = trace_nodes(self._nodes, *wall)
        exposure = F(2.4 * (0.25 / max(mean, 0.02)) ** 1.2)
        noise_at = (index * 104_729 + self.settings.seed * 7_919) % 2**18
        paint = (self._surface.mips, self._surface.colours, self._surface.noise, noise_at, exposure)
        paint_wall(self._image, self._depth, self._nodes, self._drawn_spans, *wall, *paint)
        self._draw_polyps(scope, lobes, origin, pose.rotation, paint)
        turn = smear(self._pose(time_s - SHUTTER_S / 2), pose, self._pose(time_s + SHUTTER_S / 2))
        self._blur(turn, covered=len(lobes) > 0)
        return len(lobes) > 0

    def _pose(self, time_s: float) -> Pose:
        visit = self._plan.visit_at(max(time_s, 0.0))
        return self._path.pose(time_s, None if visit is None else visit.sight)

    def _scope(self, origin: Vector, pose: Pose) -> Scope:
        here = _point(origin)
        room = max(float(depth_inside(self._colon.rows, *here)), 1e-3)
        first = int(np.searchsorted(self._colon.ridge_z, here[2], side="right"))
        right, down, ahead = (_point(row) for row in pose.rotation)
        return Scope(here, right, down, ahead, first, F(room))

    def _draw_polyps(
        self, scope: Scope, lobes: Table, origin: Vector, rotation: Vector, paint: Paint
    ) -> None:
        boxes = lobe_boxes(lobes, origin, rotation, self._size_hw)
        angle = F(1 / self._px_per_rad)
        self._cover[:] = 0
        paint_polyps(
            self._image,
            self._cover,
            self._depth,
            self._drawn_spans,
            scope,
            self._ways,
            lobes,
            boxes,
            angle,
            *paint,
        )

    def _blur(self, turn: Vector, *, covered: bool) -> None:
        """Softness of the lens, and the smear of a moving one, on picture and coverage alike."""
        kernel = _smear(turn * self._px_per_rad)
        for plane in (self._image, self._cover) if covered else (self._image,):
            cv2.GaussianBlur(plane, (3, 3), 0.6, dst=plane)
            if kernel is not None:
                cv2.filter2D(plane, -1, kernel, dst=plane, borderType=cv2.BORDER_REPLICATE)

    def _show(self, out: ImageBgr) -> None:
        expected = (*self.settings.size_hw, 3)
        if out.shape != expected or out.dtype != np.uint8:
            raise ValueError(f"picture: {out.shape} {out.dtype}; expected {expected} uint8")
        box = self._box
        field = out[box.top : box.top + box.height, box.left : box.left + box.width]
        cv2.resize(self._image, (box.width, box.height), dst=field, interpolation=cv2.INTER_LINEAR)
        clear_outside(field, self._spans)
        out[: box.top], out[box.top + box.height :] = 0, 0
        out[:, : box.left], out[:, box.left + box.width :] = 0, 0
        height, width = self._label.shape[:2]
        out[box.top : box.top + height, :width] = self._label

    def _mask(self, drawn: bool) -> Mask:
        mask = np.zeros(self.settings.size_hw, np.bool_)
        if drawn:
            box = self._box
            cover = cv2.resize(self._cover, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
            field = mask[box.top : box.top + box.height, box.left : box.left + box.width]
            np.greater_equal(cover, 128, out=field)
            clip_mask(field, self._spans)
        return mask


def _point(values: Vector) -> Point:
    return F(values[0]), F(values[1]), F(values[2])


def _drawn_size(height: int, width: int) -> tuple[int, int]:
    area = height * width
    scale = math.sqrt(min(1.0, max(DRAWN_PX, DRAWN_SHARE * area) / area))
    return max(8, round(height * scale)), max(8, round(width * scale))


def _smear(way_px: Vector) -> Table | None:
    """Line kernel along ``way_px`` (right, down), None if it is shorter than a pixel and a half."""
    length = float(np.hypot(*way_px))
    if length < 1.5:
        return None
    half = math.ceil(length / 2)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for k in np.linspace(-0.5, 0.5, 4 * half + 1):
        x, y = half + k * way_px[0], half + k * way_px[1]
        kernel[round(y), round(x)] += 1
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)
