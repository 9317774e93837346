"""Decoded pictures kept in the folder that ENDOSTREAM_DECODED names, so that the next run need not decode them again.

Separate from the source that plays them. ``endostream profile`` makes such a folder for its own time: runs after the
first then start as fast as they do on a source that need not be decoded. Without that variable nothing is kept.
Nothing is looked up by content: a recording that changes while the folder is in use must not be expected to be seen.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from endostream.pipeline.frame import ImageBgr, SizeHW

VARIABLE = "ENDOSTREAM_DECODED"
_CHANGES_PICTURES = ("phantom", "deinterlace", "folder_fps", "faults")
"""Options of a source that its pictures depend on."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first pictures of a source.

    Attributes:
        images: height × width × 3, uint8, BGR, all of one size: in memory or mapped from a file.
        first_s: time of the first, seconds.
        faults: what was wrong with the source, by kind.
    """

    images: list[ImageBgr]
    first_s: float
    faults: dict[str, int]


def kept_path(
    address: str, size_hw: SizeHW, most: int, start_s: float, extra: Mapping[str, Any]
) -> Path | None:
    """Where the pictures of this source lie or are to lie; None if nothing is kept."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    options = {key: extra.get(key) for key in _CHANGES_PICTURES}
    text = json.dumps([address, size_hw, most, start_s, options], sort_keys=True, default=str)
    return Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"


def load(path: Path) -> Decoded | None:
    """What lies there, mapped; None if nothing usable does."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Decoded(list(np.load(path, mmap_mode="r")), float(facts["first_s"]), dict(facts["faults"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def keep(path: Path, decoded: Decoded) -> None:
    """Write them, whole or not at all; a folder without room keeps nothing."""
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        shape = (len(decoded.images), *decoded.images[0].shape)
        mapped = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        for place, image in zip(mapped, decoded.images, strict=True):
            place[:] = image
        facts = {"first_s": decoded.first_s, "faults": decoded.faults}
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
