"""The self-test of an engine: a stored picture goes in, and the mask that its network makes of it must come out.

An engine may load and run and still be wrong: built for another GPU, by a faulty tactic, from another file. The
picture is a frame of the phantom (``replay/phantom_render.py``, seed 3, frame 160; no patient's). What must come out is
stored for the networks that ship and computed once by OpenVINO on the CPU for any other. Separate because it
knows arrays and files only, no GPU.
"""

import contextlib
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from endostream.configs.errors import ModelError

from .segmenter import ImageRgb, Mask

LEAST_DICE = {"fp32": 0.998, "fp16": 0.99, "int8": 0.97}
"""Between an engine's mask and the network's in float32 on a CPU. Other kernels flip a few of the 150 pixels whose
probability is between 0.4 and 0.6, of 9,000 that are marked; INT8 on OpenVINO reaches 0.999."""
FOLDER = Path(str(files("endostream.models"))) / "reference"
PICTURE = "picture.png"
MASKS = "masks.json"
"""sha256 of a model file to the name of its mask."""


def reference_picture(input_hw: tuple[int, int]) -> ImageRgb:
    """The stored picture at a network's input size."""
    return np.asarray(cv2.cvtColor(_read(FOLDER / PICTURE, input_hw), cv2.COLOR_BGR2RGB), np.uint8)


def reference_mask(model: Path, sha256: str, input_hw: tuple[int, int]) -> Mask:
    """What the network of ``model`` makes of the stored picture: stored, cached, or computed by OpenVINO.

    Raises:
        ModelError: it is neither stored nor cached, and OpenVINO cannot open the model.
    """
    stored = json.loads((FOLDER / MASKS).read_text(encoding="utf-8")).get(sha256)
    if stored is not None:
        return _read(FOLDER / stored, input_hw, cv2.IMREAD_GRAYSCALE) > 127
    cached = _cache_file(sha256)
    if cached.is_file():
        kept = cv2.imread(str(cached), cv2.IMREAD_GRAYSCALE)
        if kept is not None and kept.shape == input_hw:
            return np.asarray(kept > 127, np.bool_)
    mask = computed_mask(model, input_hw)
    _keep(cached, mask)
    return mask


def computed_mask(model: Path, input_hw: tuple[int, int]) -> Mask:
    """The mask by OpenVINO on the CPU, every mark kept; raises ModelError."""
    from .openvino_segmenter import OpenvinoSegmenter

    segmenter = OpenvinoSegmenter(model=str(model), precision="fp32", input_hw=input_hw, sure_prob=0.5)
    try:
        return segmenter.segment(reference_picture(input_hw)).mask
    finally:
        segmenter.close()


def require_mask(mask: Mask, expected: Mask, precision: str, what: str) -> float:
    """Dice of the two, or of what is left unmarked where nothing is marked; raises ModelError below the bound."""
    ours, theirs = (mask, expected) if expected.any() else (~mask, ~expected)
    whole = int(ours.sum()) + int(theirs.sum())
    dice = 2 * int((ours & theirs).sum()) / whole if whole else 1.0
    least = LEAST_DICE[precision]
    if dice < least:
        raise ModelError(
            f"{what}: its mask of the stored picture has Dice {dice:.4f} with the network's own; expected {least} or"
            f" more at {precision}"
        )
    return dice


def _read(file: Path, input_hw: tuple[int, int], flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(file), flag)
    if image is None:
        raise ModelError(f"self-test: {file}; cannot be read. Try: install endostream again")
    height, width = input_hw
    same = image.shape[:2] == (height, width)
    return image if same else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _cache_file(sha256: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    picture = hashlib.sha256((FOLDER / PICTURE).read_bytes()).hexdigest()
    return base / "endostream" / "self-test" / f"{sha256[:32]}-{picture[:8]}.png"


def _keep(file: Path, mask: Mask) -> None:
    """Write a mask whole or not at all; where nothing can be written it is computed again."""
    part = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        part.write_bytes(png.tobytes())
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
