"""What the window shows: the picture with its proportions kept, black bars, side by side, and the words over it.

Separate from the window itself: it draws into an array and knows no display, so every look can be checked as a
picture. The words lie on the screen alone, never in what is recorded. It decides nothing: ``WindowView`` says what
the user asked for.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..draw import ColourBgr
from ..frame import Box, ImageBgr, SizeHW

ScreenBgra = npt.NDArray[np.uint8]
"""H × W × 4, BGR and one byte that is not looked at."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK: ColourBgr = (28, 24, 22)
_WHITE: ColourBgr = (235, 235, 235)
_RED: ColourBgr = (40, 30, 230)
_AMBER: ColourBgr = (40, 170, 245)
_BLACK: ColourBgr = (0, 0, 0)

HELP_LINES = (
    ("f", "full screen on, off"),
    ("o", "marks on, off"),
    ("b", "picture as captured beside it"),
    ("s", "snapshot: with marks and as captured"),
    ("r", "recording on, off"),
    ("h  ?", "this help"),
    ("q  Esc", "end the run"),
)


@dataclass(frozen=True, slots=True)
class WindowView:
    """How the user wants to see the pictures."""

    marks: bool = True
    side_by_side: bool = False
    full_screen: bool = False
    help: bool = False

    @property
    def needs_raw(self) -> bool:
        """Whether the picture as captured is shown."""
        return self.side_by_side or not self.marks


@dataclass(frozen=True, slots=True)
class Chip:
    """A short text on a panel of its own; ``dot`` is the colour of a dot before it."""

    text: str
    paper: ColourBgr = _DARK
    ink: ColourBgr = _WHITE
    dot: ColourBgr | None = None


@dataclass(frozen=True, slots=True)
class WindowContent:
    """What there is to show.

    Attributes:
        image_bgr: the finished picture, None before the first.
        raw_bgr: the same picture as captured, None if it is not at hand.
        hud: what the HUD covers in the finished one, None without.
        chips: words over it, from the bottom up.
    """

    image_bgr: ImageBgr | None = None
    raw_bgr: ImageBgr | None = None
    hud: Box | None = None
    chips: tuple[Chip, ...] = ()


MARKS_OFF = Chip("MARKS OFF - press o", _AMBER, _BLACK)
RECORDING = Chip("REC", _DARK, _WHITE, _RED)


def recording_failed(reason: str) -> Chip:
    """Says that a recording stopped or could not begin."""
    return Chip(f"NOT RECORDING: {reason}", (40, 30, 190))


def fitted(size_hw: SizeHW, into: Box) -> Box:
    """The largest box of the proportions of ``size_hw`` in the middle of ``into``; at least 1 × 1."""
    height, width = size_hw
    scale = min(into.width / width, into.height / height)
    shown_width, shown_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = into.x + (into.width - shown_width) // 2, into.y + (into.height - shown_height) // 2
    return Box(left, top, shown_width, shown_height)


class WindowPicture:
    """Draws what the window shows; it remembers where the last picture lay, and paints the bars only when it moves."""

    def __init__(self) -> None:
        self._layout: tuple[SizeHW, tuple[Box, ...]] | None = None

    def forget(self) -> None:
        """The screen was painted on by others: paint the bars too next time."""
        self._layout = None

    def draw(self, screen: ScreenBgra, content: WindowContent, view: WindowView) -> None:
        """Draw ``content`` into ``screen`` in place, all of it."""
        boxes = self._boxes((screen.shape[0], screen.shape[1]), content, view)
        layout = ((screen.shape[0], screen.shape[1]), boxes)
        if layout != self._layout or content.chips or view.help or content.image_bgr is None:
            screen[:] = 0
        # What lies in the bars goes away with the next picture, as the layout then counts as new.
        self._layout = None if content.chips or view.help else layout
        if content.image_bgr is not None:
            shown = content.image_bgr if view.marks or content.raw_bgr is None else content.raw_bgr
            _place(screen, shown, boxes[-1])
            if shown is not content.image_bgr:
                _place_hud(screen, content.image_bgr, content.hud, boxes[-1])
            if len(boxes) == 2 and content.raw_bgr is not None:
                _place(screen, content.raw_bgr, boxes[0])
                _draw_label(screen, "as captured", boxes[0])
        self._draw_words(screen, content, view, boxes)

    @staticmethod
    def _boxes(size_hw: SizeHW, content: WindowContent, view: WindowView) -> tuple[Box, ...]:
        height, width = size_hw
        if content.image_bgr is None:
            return (Box(0, 0, width, height),)
        picture_hw = (content.image_bgr.shape[0], content.image_bgr.shape[1])
        if not view.side_by_side or content.raw_bgr is None or width < 4:
            return (fitted(picture_hw, Box(0, 0, width, height)),)
        half = width // 2 - 1
        return (
            fitted(picture_hw, Box(0, 0, half, height)),
            fitted(picture_hw, Box(width - half, 0, half, height)),
        )

    @staticmethod
    def _draw_words(
        screen: ScreenBgra, content: WindowContent, view: WindowView, boxes: tuple[Box, ...]
    ) -> None:
        text_px = _text_px(screen)
        at_right = _hud_is_lower_left(content)
        bottom = screen.shape[0] - text_px // 2
        for chip in content.chips:
            bottom = _draw_chip(screen, chip, bottom, text_px, at_right)
        if view.help:
            _draw_help(screen, text_px)


def _place(screen: ScreenBgra, image_bgr: ImageBgr, box: Box) -> None:
    if (box.height, box.width) != image_bgr.shape[:2]:
        shrinks = box.width < image_bgr.shape[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image_bgr = cv2.resize(image_bgr, (box.width, box.height), interpolation=way)  # type: ignore[assignment]
    target = screen[box.y : box.y + box.height, box.x : box.x + box.width]
    cv2.cvtColor(image_bgr, cv2.COLOR_BGR2BGRA, dst=target)


def _place_hud(screen: ScreenBgra, image_bgr: ImageBgr, hud: Box | None, box: Box) -> None:
    """The finished picture's HUD over the picture as captured: what the AI says is never hidden."""
    if hud is None:
        return
    scale_x, scale_y = box.width / image_bgr.shape[1], box.height / image_bgr.shape[0]
    left, top = round(hud.x * scale_x), round(hud.y * scale_y)
    right, bottom = round((hud.x + hud.width) * scale_x), round((hud.y + hud.height) * scale_y)
    if right > left and bottom > top:
        part = image_bgr[hud.y : hud.y + hud.height, hud.x : hud.x + hud.width]
        _place(screen, part, Box(box.x + left, box.y + top, right - left, bottom - top))


def _hud_is_lower_left(content: WindowContent) -> bool:
    if content.hud is None or content.image_bgr is None:
        return False
    height, width = content.image_bgr.shape[:2]
    return bool(content.hud.x < width // 3 and content.hud.y > height // 2)


def _text_px(screen: ScreenBgra) -> int:
    """Height of capitals: 2 % of the window's height, and legible in a small one."""
    return max(10, round(0.02 * int(screen.shape[0])))


def _text_width(text: str, text_px: int, weight: int = 1) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, cv2.getFontScaleFromHeight(_FONT, text_px, 1), weight)
    return int(width)


def _put(
    screen: ScreenBgra, text: str, left: int, baseline: int, text_px: int, ink: ColourBgr, weight: int = 1
) -> None:
    scale = cv2.getFontScaleFromHeight(_FONT, text_px, 1)
    cv2.putText(screen, text, (left, baseline), _FONT, scale, ink, weight, cv2.LINE_AA)


def _shortened(text: str, text_px: int, most_px: int) -> str:
    shown = text
    while len(shown) > 4 and _text_width(shown, text_px) > most_px:
        shown = shown[:-4] + "..." if shown.endswith("...") else shown[:-1] + "..."
    return shown


def _draw_chip(screen: ScreenBgra, chip: Chip, bottom: int, text_px: int, at_right: bool) -> int:
    """Draw one chip with its lower edge at ``bottom``; returns where the next one's lower edge goes."""
    width, pad = screen.shape[1], text_px * 2 // 3
    dot_px = 0 if chip.dot is None else text_px + pad
    text = _shortened(chip.text, text_px, width - 4 * pad - dot_px)
    panel_width = _text_width(text, text_px) + 2 * pad + dot_px
    left = max(0, width - pad - panel_width) if at_right else pad
    top = bottom - 2 * text_px
    cv2.rectangle(screen, (left, top), (left + panel_width, bottom), chip.paper, cv2.FILLED)
    if chip.dot is not None:
        centre = (left + pad + text_px // 2, (top + bottom) // 2)
        cv2.circle(screen, centre, text_px // 2, chip.dot, cv2.FILLED, cv2.LINE_AA)
    _put(screen, text, left + pad + dot_px, bottom - text_px // 2, text_px, chip.ink)
    return top - text_px // 3


def _draw_label(screen: ScreenBgra, text: str, box: Box) -> None:
    """Above the picture where a bar leaves room, else in its upper left corner."""
    text_px = _text_px(screen)
    height = 2 * text_px
    top = box.y - height if box.y >= height else box.y
    right = min(screen.shape[1], box.x + _text_width(text, text_px) + text_px)
    cv2.rectangle(screen, (box.x, top), (right, top + height), _DARK, cv2.FILLED)
    _put(screen, text, box.x + text_px // 2, top + height - text_px // 2, text_px, _WHITE)


def _draw_help(screen: ScreenBgra, text_px: int) -> None:
    """The keys, on a panel in the middle."""
    keys_px = max(_text_width(key, text_px, 2) for key, _ in HELP_LINES)
    texts_px = max(_text_width(text, text_px) for _, text in HELP_LINES)
    width, row_px = keys_px + texts_px + 5 * text_px, 2 * text_px
    height = row_px * len(HELP_LINES) + 2 * text_px
    left, top = max(0, (screen.shape[1] - width) // 2), max(0, (screen.shape[0] - height) // 2)
    cv2.rectangle(screen, (left, top), (left + width, top + height), _DARK, cv2.FILLED)
    cv2.rectangle(screen, (left, top), (left + width, top + height), (150, 150, 150), 1)
    for row, (key, text) in enumerate(HELP_LINES):
        baseline = top + 2 * text_px + row * row_px + text_px // 2
        _put(screen, key, left + 3 * text_px // 2, baseline, text_px, _AMBER, 2)
        _put(screen, text, left + keys_px + 3 * text_px, baseline, text_px, _WHITE)
