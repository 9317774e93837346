"""The witness's code: a frame's number and time, drawn into the picture and read back from wherever it is seen.

An instrument that does not trust our own stamps needs something in the picture itself. Two equal bands, at the top and
at the bottom edge, hold 80 bits each: number (32), time in microseconds (32) and a check sum (16); where the two
differ, the picture is torn. An ArUco marker in each corner (Garrido-Jurado et al. 2014, OpenCV's) says where on a
screen the picture lies and how it was scaled. Black and white only, in the luma: chroma subsampling, a codec and a
scaler leave them readable down to 3 pixels a unit. Separate from who draws and who looks. It knows no clock.
"""

import binascii
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]
"""H × W, limited range where it is drawn (16 black, 235 white); any brightness where it is read."""
Places = npt.NDArray[np.intp]
"""Rows or columns, bands × rows × columns × 3 × 3."""
_BLACK, _WHITE = 16, 235
_UNITS = 96
"""Units across the picture: 8 for a marker with its margin, 80 for the bits, 8 for the other marker."""
_BAND_UNITS = 8
_MARKER_UNITS = 6
_COLUMNS, _ROWS = 40, 2
_CELL_UNITS_W, _CELL_UNITS_H = 2, 3
TIME_WRAPS_US = 1 << 32
_LEAST_PX = 288
_DICTIONARY = cv2.aruco.DICT_4X4_50


@dataclass(frozen=True, slots=True)
class Code:
    """What a band says: the frame's number and the low 32 bits of a monotonic time in microseconds."""

    number: int
    time_us: int

    def bits(self) -> npt.NDArray[np.bool_]:
        """80 bits, the check sum (CRC-16/CCITT) last."""
        body = self.number.to_bytes(4, "big") + (self.time_us % TIME_WRAPS_US).to_bytes(4, "big")
        whole = body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
        return np.unpackbits(np.frombuffer(whole, np.uint8)).astype(np.bool_)


def code_from_bits(bits: npt.NDArray[np.bool_]) -> Code | None:
    """The code of 80 bits, None where the check sum does not fit."""
    whole = np.packbits(bits).tobytes()
    if binascii.crc_hqx(whole[:8], 0xFFFF).to_bytes(2, "big") != whole[8:]:
        return None
    return Code(int.from_bytes(whole[:4], "big"), int.from_bytes(whole[4:8], "big"))


@dataclass(frozen=True, slots=True)
class Sighting:
    """What both bands of one picture say; None for a band that cannot be read."""

    top: Code | None
    bottom: Code | None

    @property
    def torn(self) -> bool:
        """Whether the two bands are of different frames."""
        return self.top is not None and self.bottom is not None and self.top != self.bottom

    @property
    def code(self) -> Code | None:
        """The newest frame of which some part is seen."""
        seen = [code for code in (self.top, self.bottom) if code is not None]
        return max(seen, key=lambda code: code.number) if seen else None


def unit_px(width: int, height: int) -> int:
    """Pixels of a unit; raises ValueError for a picture too small to hold the code."""
    unit = width // _UNITS
    if unit < 3 or height < 4 * _BAND_UNITS * unit:
        raise ValueError(f"size: {width} × {height}; expected at least {_LEAST_PX} × 96, and not that flat")
    return unit


def draw_code(luma: Luma, code: Code, *, bottom: Code | None = None) -> None:
    """Draw both bands into a picture, in place; ``bottom``: another code for the lower one, to tear it."""
    height, width = luma.shape
    unit = unit_px(width, height)
    for at_bottom, band_code in ((False, code), (True, bottom or code)):
        band = _blank_band(width, unit, at_bottom)
        x, y = _cells_at(width, unit)
        cells = band_code.bits().reshape(_ROWS, _COLUMNS)
        cell_px = np.ones((_CELL_UNITS_H * unit, _CELL_UNITS_W * unit), np.uint8)
        block = np.kron(np.where(cells, np.uint8(_BLACK), np.uint8(_WHITE)), cell_px)
        band = band.copy()
        band[y : y + block.shape[0], x : x + block.shape[1]] = block
        top = height - band.shape[0] if at_bottom else 0
        luma[top : top + band.shape[0]] = band


def band_height(width: int, height: int) -> int:
    """Rows of a band in pixels."""
    return _BAND_UNITS * unit_px(width, height)


def _cells_at(width: int, unit: int) -> tuple[int, int]:
    return (width - _COLUMNS * _CELL_UNITS_W * unit) // 2, unit


@lru_cache(maxsize=8)
def _blank_band(width: int, unit: int, at_bottom: bool) -> Luma:
    """White, with the two markers of its corners."""
    band = np.full((_BAND_UNITS * unit, width), _WHITE, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
    side = _MARKER_UNITS * unit
    for place, left in enumerate((unit, width - unit - side)):
        marker = cv2.aruco.generateImageMarker(dictionary, 2 * at_bottom + place, side)
        band[unit : unit + side, left : left + side] = np.where(marker > 0, _WHITE, _BLACK)
    return band


class CodeReader:
    """Reads codes out of pictures of the size they were drawn in, wherever and however large they are shown.

    Args:
        drawn_wh: width and height in which the code was drawn.
    """

    def __init__(self, drawn_wh: tuple[int, int]) -> None:
        self._width, self._height = drawn_wh
        self._unit = unit_px(*drawn_wh)
        parameters = cv2.aruco.DetectorParameters()
        dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
        self._detector = cv2.aruco.ArucoDetector(dictionary, parameters)
        self._samples: tuple[Places, Places] | None = None
        self._seen_hw: tuple[int, int] = (0, 0)

    def read(self, luma: Luma) -> Sighting:
        """What ``luma`` shows; looks for the picture again whenever neither band can be read where it was."""
        if self._samples is None and luma.shape == (self._height, self._width):
            self._seen_hw = (self._height, self._width)  # most likely a recording: nothing to look for
            self._samples = self._sample_places((0.0, 1.0), (0.0, 1.0))
        sighting = self._sample(luma)
        if sighting.code is None and self.locate(luma):
            sighting = self._sample(luma)
        return sighting

    def locate(self, luma: Luma) -> bool:
        """Find the picture by its markers (two that are not on one edge are enough); whether that worked."""
        corners, ids, _ = self._detector.detectMarkers(luma)
        if ids is None:
            return False
        drawn, seen = [], []
        for quad, marker in zip(corners, np.ravel(ids), strict=True):
            if marker < 4:
                drawn += self._marker_corners(int(marker))
                seen += np.reshape(quad, (4, 2)).tolist()
        scales = (
            [_line(np.array(drawn)[:, axis], np.array(seen)[:, axis]) for axis in (0, 1)] if drawn else []
        )
        if not scales or None in scales:
            return False
        self._seen_hw = (luma.shape[0], luma.shape[1])
        self._samples = self._sample_places(*(scale for scale in scales if scale is not None))
        return self._samples is not None

    def bounds(self) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom of what has to be looked at, in pixels of the last picture; None before."""
        if self._samples is None:
            return None
        rows, columns = self._samples
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1

    def move(self, down: int, right: int, seen_hw: tuple[int, int]) -> None:
        """From now on pictures of ``seen_hw`` come, cut out of what came before: places shift by so many pixels."""
        if self._samples is not None:
            rows, columns = self._samples
            self._samples = (rows + down, columns + right)
            self._seen_hw = seen_hw

    def _marker_corners(self, marker: int) -> list[tuple[float, float]]:
        side = _MARKER_UNITS * self._unit
        left = self._unit if marker % 2 == 0 else self._width - self._unit - side
        top = self._unit + (self._height - _BAND_UNITS * self._unit if marker >= 2 else 0)
        # OpenCV gives a corner as the centre of the corner pixel, clockwise from the upper left.
        far = side - 1
        return [(left, top), (left + far, top), (left + far, top + far), (left, top + far)]

    def _sample_places(
        self, across: tuple[float, float], down: tuple[float, float]
    ) -> tuple[Places, Places] | None:
        """Rows and columns of 2 bands × 80 cells × 9 samples around each centre; None if outside the picture."""
        x, y = _cells_at(self._width, self._unit)
        cell_w, cell_h = _CELL_UNITS_W * self._unit, _CELL_UNITS_H * self._unit
        centre_x = x + (np.arange(_COLUMNS) + 0.5) * cell_w - 0.5
        tops = np.array([y, y + self._height - _BAND_UNITS * self._unit])
        centre_y = tops[:, None] + (np.arange(_ROWS) + 0.5) * cell_h - 0.5
        spread_x, spread_y = np.array([-1, 0, 1]) * cell_w / 6, np.array([-1, 0, 1]) * cell_h / 6
        across_px = across[0] + across[1] * (centre_x[:, None] + spread_x)
        down_px = down[0] + down[1] * (centre_y[..., None] + spread_y)
        shape = (2, _ROWS, _COLUMNS, 3, 3)
        columns: Places = np.broadcast_to(np.rint(across_px)[None, None, :, None, :], shape).astype(np.intp)
        rows: Places = np.broadcast_to(np.rint(down_px)[:, :, None, :, None], shape).astype(np.intp)
        height, width = self._seen_hw
        inside = rows.min() >= 0 <= columns.min() and rows.max() < height and columns.max() < width
        return (rows, columns) if inside else None

    def _sample(self, luma: Luma) -> Sighting:
        if self._samples is None or luma.shape != self._seen_hw:
            return Sighting(None, None)
        levels = luma[self._samples].mean(axis=(-1, -2)).reshape(2, -1)
        # Every code holds black and white cells; half-way between them is the threshold, whatever the brightness.
        middle = (levels.min(axis=1) + levels.max(axis=1)) / 2
        bits = levels < middle[:, None]
        return Sighting(code_from_bits(bits[0]), code_from_bits(bits[1]))


def _line(drawn: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Offset and factor from drawn to seen pixels; None where they cannot be told apart."""
    if np.ptp(drawn) < np.ptp(seen) / 64 or np.ptp(drawn) == 0:
        return None
    factor, offset = np.polyfit(drawn, seen, 1)
    return float(offset), float(factor)
