"""Kvasir-SEG on disk, or any data laid out like it: pairs of picture and mask, boxes, and their faults.

The layout is ``images/NAME.jpg``, ``masks/NAME.jpg`` and, if there, ``kavsir_bboxes.json`` (the data set
spells it so); PNG serves as well as JPEG. Separate from the splits (``splits.py``), which know names only.
It resizes and augments nothing, and mends nothing: ``check_pairs`` names each fault in one line.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from endostream.configs.errors import SourceMissing
from endostream.models.metrics import BoxCorners
from endostream.models.segmenter import ImageRgb, Mask

MASK_LEVEL = 127
"""Masks are JPEG, so black is 0 to 8 and white 247 to 255: polyp is above this."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
BOXES_FILE = "kavsir_bboxes.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its mask: ``name`` is the file name without suffix; ``mask`` may not exist on disk."""

    name: str
    image: Path
    mask: Path


def find_pairs(root: Path) -> list[Pair]:
    """All pairs under ``root``, sorted by name; decodes none.

    Raises:
        SourceMissing: no such folder, no ``images/`` in it, or no picture in that.
    """
    images = root / "images"
    if not root.is_dir():
        raise SourceMissing(f"data: {root}; no such folder")
    if not images.is_dir():
        raise SourceMissing(f"data: {root}; expected folders images and masks in it.{_nested_hint(root)}")
    masks = _by_stem(root / "masks")
    found = _by_stem(images)
    if not found:
        raise SourceMissing(
            f"data: {images}; empty folder, expected pictures ({', '.join(PICTURE_SUFFIXES)})"
        )
    missing = root / "masks"
    return [Pair(name, path, masks.get(name, missing / path.name)) for name, path in sorted(found.items())]


def _nested_hint(root: Path) -> str:
    """Points at the data set one folder down, where unpacking an archive often leaves it."""
    inner = next((path.parent for path in sorted(root.glob("*/images")) if path.is_dir()), None)
    return f" Try: {inner}" if inner else ""


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}


def check_pairs(pairs: Iterable[Pair]) -> list[str]:
    """What is wrong, one line for each fault, empty if nothing is. Decodes every file (1 s for 900 pairs)."""
    return [line for pair in pairs for line in _faults(pair)]


def require_sound(pairs: Sequence[Pair], say: Callable[[str], None]) -> None:
    """Tell every fault by ``say``, one line each; raise SourceMissing if there was one."""
    faults = check_pairs(pairs)
    for fault in faults:
        say(fault)
    if faults:
        raise SourceMissing(
            f"data: {len(faults)} faults in {len(pairs)} pairs, the first: {faults[0]}."
            " Try: mend or remove these files"
        )


def _faults(pair: Pair) -> list[str]:
    image_hw, image_fault = _decoded_size(pair.image)
    if not pair.mask.exists():
        mask_fault = f"mask of {pair.name}: missing; expected {pair.mask}"
        return [fault for fault in (image_fault, mask_fault) if fault]
    mask_hw, mask_fault = _decoded_size(pair.mask)
    if image_hw and mask_hw and image_hw != mask_hw:
        ours, theirs = (f"{width} x {height}" for height, width in (mask_hw, image_hw))
        mask_fault = f"mask {pair.mask}: {ours}; expected {theirs} as its picture"
    return [fault for fault in (image_fault, mask_fault) if fault]


def _decoded_size(path: Path) -> tuple[tuple[int, int] | None, str]:
    """Height and width as FFmpeg's strict decoder finds them, or None and the fault.

    Strict, because OpenCV fills what it cannot decode with grey and says nothing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, f"picture {path}: cannot be read ({error.strerror}); expected a JPEG or PNG"
    if not data:
        return None, f"picture {path}: 0 bytes; expected a JPEG or PNG"
    codec = av.CodecContext.create("png" if data.startswith(b"\x89PNG") else "mjpeg", "r")
    codec.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
    try:
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        return (
            None,
            f"picture {path}: damaged ({type(error).__name__}); expected a JPEG or PNG that decodes whole",
        )
    if not frames:
        return None, f"picture {path}: no picture in {len(data)} bytes; expected a JPEG or PNG"
    return (frames[0].height, frames[0].width), ""


def read_image(path: Path) -> ImageRgb:
    """A picture: uint8, H × W × 3, RGB. Raises SourceMissing if it cannot be decoded."""
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise SourceMissing(f"picture: {path}; cannot be decoded")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_mask(path: Path) -> Mask:
    """A mask: bool, H × W. Raises SourceMissing if it cannot be decoded."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise SourceMissing(f"mask: {path}; cannot be decoded")
    return np.asarray(grey > MASK_LEVEL, np.bool_)


def read_boxes(root: Path) -> dict[str, list[BoxCorners]]:
    """The data set's boxes by picture name, empty if it has none. Raises SourceMissing for a damaged file."""
    path = root / BOXES_FILE
    if not path.exists():
        return {}
    try:
        return {
            name: [BoxCorners(box["xmin"], box["ymin"], box["xmax"], box["ymax"]) for box in entry["bbox"]]
            for name, entry in json.loads(path.read_text()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceMissing(f"boxes: {path}; cannot be read ({error!r})") from error
