"""The state of the AI drawn into a corner of the picture, and the card shown while there is no picture.

Separate from the marks: the HUD is there in every state, above all when there are none to draw. "Nothing
found" and "not working" never look alike: they differ in words, in colour and in how the panel is filled.
The panel is opaque, so that contrast does not hang on the tissue behind it, and lies where it covers least
of it. Text is rendered once and pasted from then on (0.05 ms a frame at 1080p). It does not decide what the
state is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .draw import ColourBgr
from .frame import Box, ImageBgr, MaskState, SizeHW

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WIDEST = ("AI LATE - no marks", "mask 1000 ms  60 fps")
"""Headline and detail the panel is wide enough for; what is longer is cut short, so that it never jumps."""
_SHORT_CAUSE = len("preprocess down")
"""Longer causes go to the second line, where more fits."""


@dataclass(frozen=True, slots=True)
class HudInfo:
    """What the HUD says.

    Attributes:
        state: of the mask behind this frame.
        mask_age_ms: how old it is, None without a mask.
        fps: frames presented a second, None while unknown.
        segmenter: its name.
        finding: whether the mask that is drawn marks anything.
        cause: why the state is FAILED, or what keeps the first mask waiting; else "".
        time_s: stream time, None to leave it out.
    """

    state: MaskState
    mask_age_ms: float | None = None
    fps: float | None = None
    segmenter: str = ""
    finding: bool = False
    cause: str = ""
    time_s: float | None = None


class _Theme(NamedTuple):
    """Colours of a panel: background, edge on its left, headline, details."""

    paper: ColourBgr
    edge: ColourBgr
    headline: ColourBgr
    detail: ColourBgr


_DARK = (28, 24, 22)
_NOTHING_FOUND = _Theme(_DARK, (150, 150, 150), (235, 235, 235), (185, 185, 185))
_FINDING = _Theme(_DARK, (160, 255, 40), (160, 255, 40), (185, 185, 185))
_THEMES = {
    MaskState.ABSENT: _Theme((96, 60, 28), (255, 190, 120), (255, 225, 190), (225, 200, 175)),
    MaskState.STALE: _Theme((40, 170, 245), (20, 70, 110), (0, 0, 0), (20, 30, 40)),
    MaskState.FAILED: _Theme((40, 30, 190), (255, 255, 255), (255, 255, 255), (225, 225, 250)),
}


def hud_text(info: HudInfo) -> tuple[str, str, str]:
    """Its three lines: what the AI says, age of the mask and frame rate, segmenter and stream time."""
    word = "held" if info.state is MaskState.HELD else "mask"
    age = "no mask" if info.mask_age_ms is None else f"{word} {info.mask_age_ms:.0f} ms"
    rate = "" if info.fps is None else f"  {info.fps:.0f} fps"
    if info.cause and not _fits_headline(info):
        age, rate = info.cause.replace("_", " "), ""
    time = "" if info.time_s is None else f"  {int(info.time_s // 60)}:{int(info.time_s % 60):02d}"
    return _headline(info), age + rate, info.segmenter + time


def draw_hud(image_bgr: ImageBgr, info: HudInfo, view_rect: Box | None = None) -> Box | None:
    """Draw the HUD into ``image_bgr`` (H × W × 3, uint8) in place.

    Args:
        image_bgr: the picture.
        info: what to say.
        view_rect: where the endoscope's picture lies, None if unknown; the rest counts as black border.

    Returns:
        The rectangle that was covered, outside which nothing was touched; None if the picture is too small.
    """
    rect = hud_rect((image_bgr.shape[0], image_bgr.shape[1]), view_rect)
    if rect is None:
        return None
    theme = _theme(info)
    text_px = _text_px(image_bgr.shape[1])
    row_px = rect.height // 3
    for row, line in enumerate(hud_text(info)):
        colour = theme.detail if row else theme.headline
        top = rect.y + row * row_px
        image_bgr[top : top + row_px, rect.x : rect.x + rect.width] = _line_bitmap(
            line, text_px, (row_px, rect.width), theme.paper, theme.edge, colour, 1 if row else 2
        )
    return rect


def warm_up_hud(size_hw: SizeHW, view_rect: Box | None = None) -> None:
    """Pay now what the first HUD costs (20 ms for loading the font), so that no frame does."""
    picture = np.zeros((*size_hw, 3), dtype=np.uint8)
    for state in MaskState:
        draw_hud(picture, HudInfo(state), view_rect)


@lru_cache(maxsize=64)
def hud_rect(size_hw: SizeHW, view_rect: Box | None = None) -> Box | None:
    """Where the HUD goes in a picture of ``size_hw``: the corner where it covers least tissue, or nowhere.

    The endoscope's picture is taken to be an octagon in ``view_rect``, as the towers mask it.
    """
    height, width = size_hw
    text_px = _text_px(width)
    panel_width = max(_text_width(_WIDEST[0], text_px, 2), _text_width(_WIDEST[1], text_px, 1)) + 2 * text_px
    panel_height = 3 * round(1.55 * text_px)
    gap = text_px // 3
    if panel_width + 2 * gap > width // 2 or panel_height + 2 * gap > height // 2:
        return None
    tissue = _tissue(size_hw, view_rect or Box(0, 0, width, height))
    xs, ys = (gap, width - gap - panel_width), (gap, height - gap - panel_height)
    # Where corners are equal: the lower left is where a ScopeGuide inset lies, so it comes last.
    corners = ((xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1]))
    panels = [Box(x, y, panel_width, panel_height) for x, y in corners]
    return min(
        panels, key=lambda at: np.count_nonzero(tissue[at.y : at.y + at.height, at.x : at.x + at.width])
    )


def no_signal_picture(size_hw: SizeHW, seconds: float) -> ImageBgr:
    """A card saying for how many ``seconds`` the source has been silent: H × W × 3, uint8, not shared."""
    height, width = size_hw
    image = np.full((height, width, 3), (44, 38, 34), dtype=np.uint8)
    text_px = min(width // 12, height // 5)
    if text_px < 6:
        return image
    lines = (("NO SIGNAL", text_px, 2), (f"for {seconds:.0f} s", max(6, text_px // 2), 1))
    baseline = height // 2
    for text, size_px, weight in lines:
        left = (width - _text_width(text, size_px, weight)) // 2
        _put_text(image, text, (left, baseline), size_px, (225, 225, 225), weight)
        baseline += round(1.2 * text_px)
    return image


def _headline(info: HudInfo) -> str:
    if info.state.drawn:
        return "AI: FINDING" if info.finding else "AI: no finding"
    if info.state is MaskState.FAILED:
        return f"AI OFF - {info.cause.replace('_', ' ')}" if info.cause and _fits_headline(info) else "AI OFF"
    return "AI LATE - no marks" if info.state is MaskState.STALE else "AI starting"


def _fits_headline(info: HudInfo) -> bool:
    """Whether there is room for the cause in the first line; a longer one takes the place of mask age and rate."""
    return info.state is MaskState.FAILED and len(info.cause) <= _SHORT_CAUSE


def _theme(info: HudInfo) -> _Theme:
    if info.state.drawn:
        return _FINDING if info.finding else _NOTHING_FOUND
    return _THEMES[info.state]


def _text_px(picture_width: int) -> int:
    """Height of text: 10 px is the least that reads well; 1.1 % of the width from 1,000 px on."""
    return max(10, round(0.011 * picture_width))


def _text_width(text: str, text_px: int, weight: int) -> int:
    scale = cv2.getFontScaleFromHeight(_FONT, text_px, 1)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, weight)
    return width


def _put_text(
    image: ImageBgr, text: str, baseline_xy: tuple[int, int], text_px: int, colour: ColourBgr, weight: int
) -> None:
    scale = cv2.getFontScaleFromHeight(_FONT, text_px, 1)
    cv2.putText(image, text, baseline_xy, _FONT, scale, colour, weight, cv2.LINE_AA)


@lru_cache(maxsize=256)  # of 26 kB at 1280 x 720: at 4096, ages of late masks filled 50 MiB within minutes
def _line_bitmap(
    text: str, text_px: int, size_hw: SizeHW, paper: ColourBgr, edge: ColourBgr, ink: ColourBgr, weight: int
) -> ImageBgr:
    """One line of the panel, ready to paste; text that is too long ends in dots."""
    height, width = size_hw
    bitmap = np.full((height, width, 3), paper, dtype=np.uint8)
    bitmap[:, : max(2, text_px // 5)] = edge
    shown = text
    while shown and _text_width(shown, text_px, weight) > width - 3 * text_px // 2:
        shown = shown[:-4] + "..." if shown.endswith("...") else shown[:-1] + "..."
    _put_text(bitmap, shown, (text_px, (height + round(0.72 * text_px)) // 2), text_px, ink, weight)
    bitmap.setflags(write=False)
    return bitmap


def _tissue(size_hw: SizeHW, view: Box) -> npt.NDArray[np.uint8]:
    """H × W, 1 inside the octagon in ``view``; its corners are cut by a sixth of the shorter side."""
    cut = min(view.width, view.height) // 6
    right, bottom = view.x + view.width - 1, view.y + view.height - 1
    points = [(view.x + cut, view.y), (right - cut, view.y), (right, view.y + cut), (right, bottom - cut)]
    points += [(right - cut, bottom), (view.x + cut, bottom), (view.x, bottom - cut), (view.x, view.y + cut)]
    tissue = np.zeros(size_hw, dtype=np.uint8)
    cv2.fillConvexPoly(tissue, np.array(points, dtype=np.int32), (1,))
    return tissue
