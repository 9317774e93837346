"""Save a run after each epoch so that SIGKILL costs at most one, and take it up again exactly there.

One ``.npz`` file with the weights, the whole state of the optimiser (moments, step count, averaged weights),
the rows of the learning curve and the recipe; written beside and renamed, so that there is always a whole
one. Plain arrays, so that a run begun on one Keras backend goes on with another. There is no state of a
random generator to save: what is random depends on seed, epoch and index alone.
"""

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError, ModelError

from .learner import State
from .recipe import Recipe

FILE = "checkpoint.npz"
Row = dict[str, float | int | None]
"""A line of the learning curve, by column name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        epochs_done: whole epochs.
        best_dice: of the validations so far (dice_per_image), and in which epoch (from 1) it was; None
            before any.
        rows: the learning curve.
    """

    epochs_done: int = 0
    best_dice: float | None = None
    best_epoch: int | None = None
    rows: list[Row] = field(default_factory=list)


def save_checkpoint(folder: Path, state: State, recipe: Recipe, progress: Progress) -> None:
    """Write ``state`` and ``progress`` to ``folder``."""
    arrays: dict[str, Any] = {f"weight_{i}": value for i, value in enumerate(state.weights)}
    arrays |= {f"optimiser_{i}": value for i, value in enumerate(state.optimiser)}
    note = {
        "recipe": recipe.model_dump(),
        "epochs_done": progress.epochs_done,
        "best_dice": progress.best_dice,
        "best_epoch": progress.best_epoch,
        "rows": progress.rows,
    }
    arrays["note"] = np.array(json.dumps(note))
    path = folder / FILE
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load_checkpoint(folder: Path, recipe: Recipe) -> tuple[State, Progress]:
    """The saved state, and how far the run was.

    Raises:
        ConfigError: no checkpoint, or one of another recipe.
        ModelError: a file that is damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise ConfigError(f"--resume: {path}; no such file. Try: without --resume")
    try:
        with np.load(path) as saved:
            note = json.loads(str(saved["note"]))
            arrays = {name: saved[name] for name in saved.files if name != "note"}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"checkpoint: {path}; damaged ({error}). Try: begin anew in another --out"
        ) from error
    _require_same_recipe(note["recipe"], recipe.model_dump(), path)
    progress = Progress(note["epochs_done"], note["best_dice"], note["best_epoch"], note["rows"])
    return State(_numbered(arrays, "weight"), _numbered(arrays, "optimiser")), progress


def _numbered(arrays: dict[str, npt.NDArray[Any]], name: str) -> list[npt.NDArray[Any]]:
    count = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{i}"] for i in range(count)]


def _require_same_recipe(saved: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    """Only a run with the same recipe goes on to the same learning curve."""
    ours, theirs = _flat(given), _flat(saved)
    changed = [key for key in ours if ours[key] != theirs.get(key)]
    if changed:
        key = changed[0]
        raise ConfigError(
            f"--resume: {path} was begun with {key}={theirs.get(key)!r}, now {ours[key]!r}; expected the same"
            f" recipe ({len(changed)} settings differ). Try: the first run's settings, or another --out"
        )


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
