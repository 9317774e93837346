"""Where a preset's model files lie, and whether they are what their card says.

A preset's folder holds ``card.json`` and, by kind, the files it names: Keras weights, ONNX in float32 and in
INT8. Separate from the runtimes, so that a missing, truncated or edited file is the same one line for each
of them. It loads no model.
"""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from endostream.configs.errors import ModelError

Kind = Literal["keras", "fp32", "int8", "int8_signed"]
FILE_OF: dict[str, str] = {
    "keras": "model.weights.h5",
    "fp32": "model.onnx",
    "int8": "model_int8.onnx",
    "int8_signed": "model_int8_signed.onnx",
}
CARD = "card.json"


def preset_folder(preset: str) -> Path:
    """Folder of a preset's files in the package; it need not exist."""
    return Path(str(files("endostream.models.weights"))) / preset


def model_file(preset: str, kind: str, model: str | Path = "") -> tuple[Path, str]:
    """The file of a preset, or ``model`` where the user names one, and its sha256.

    Raises:
        ModelError: not there, empty, or not the file that its card describes.
    """
    if kind not in FILE_OF:
        raise ModelError(f"precision: {kind!r}; expected one of {', '.join(FILE_OF)}")
    path = Path(model) if model else preset_folder(preset) / FILE_OF[kind]
    if not path.is_file():
        raise ModelError(f"model: {path}; no such file. Try: {_remedy(preset, bool(model))}")
    digest = sha256_of(path)
    expected = read_card(path.parent).get("sha256", {}).get(path.name)
    if expected is not None and digest != expected:
        raise ModelError(
            f"model: {path}; sha256 {digest[:12]}…, expected {expected[:12]}… as its {CARD} says: truncated or"
            f" edited. Try: {_remedy(preset, bool(model))}"
        )
    return path, digest


def _remedy(preset: str, named: bool) -> str:
    if named:
        return "another path, or the option model left out for the packaged file"
    return f"install endostream again, or endostream train --preset {preset} and endostream export"


def read_card(folder: Path) -> dict[str, Any]:
    """The card in ``folder``, or {} where there is none. Raises ModelError for one that cannot be read."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model card: {path}; cannot be read ({error}). Try: install endostream again"
        ) from error
    if not isinstance(card, dict):
        raise ModelError(f"model card: {path}; expected a JSON object. Try: install endostream again")
    return card


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
