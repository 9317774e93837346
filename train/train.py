"""A training run from top to bottom: read the data, build the network, go through the epochs, keep the best.

What a step minimises is in ``learner.py``, what a picture goes through in ``augment.py``, what is saved in
``checkpoint.py``. Runs on any Keras backend (KERAS_BACKEND=tensorflow, jax or torch) and imports none of
them. A run
leaves in its folder:

    recipe.json         every setting, the data and the versions
    checkpoint.npz      the whole state after the last epoch; --resume goes on from here
    best.weights.h5     averaged weights of the epoch, of the last input size, that validated best (Dice per image)
    last.weights.h5     averaged weights of the last epoch
    curve.csv, curve.png, tensorboard/
"""

import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from endostream.configs.errors import ConfigError, ModelError
from endostream.models.resunet import build_resunet, preset_config
from endostream.models.weights_files import read_card, sha256_of

from .batches import Batches, BatchPlan
from .checkpoint import FILE, Progress, Row, load_checkpoint, save_checkpoint
from .curve import EventLog, draw_curve, write_csv
from .kvasir import Pair, find_pairs, require_sound
from .learner import Learner, State, build_learner, build_optimiser, copy_averaged, put_state, state_of
from .recipe import Recipe
from .splits import Split, choose_split
from .store import store_from_pairs
from .validate import Validator

NOTE = "recipe.json"
STORE_MARGIN = 1.3
"""Pictures are kept this much larger than the input, so that zooming in shows detail."""
CURVE_EVERY_S = 60.0

Say = Callable[[str], None]
"""Takes a line for the user."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run needs beside its recipe; none of it changes the result.

    Attributes:
        data: the data set's folder.
        out: the run's folder.
        resume: go on from the checkpoint there.
        split_asked_for: the split was the user's, not the recipe's: it must fit.
        teacher: weights of the recipe's teacher, or None.
        init: weights to begin with, or None for fresh ones.
        workers: processes that make batches; 0 makes them in place.
        stop_after: end after this many epochs in all, as if interrupted; None for the recipe's.
    """

    data: Path
    out: Path
    resume: bool = False
    split_asked_for: bool = False
    teacher: Path | None = None
    init: Path | None = None
    workers: int = 2
    stop_after: int | None = None


def train(recipe: Recipe, options: RunOptions, say: Say = print) -> Progress:
    """Run the recipe.

    Args:
        recipe: what to do.
        options: where, and from where on.
        say: takes lines of progress.

    Returns:
        How far the run got; ``best.weights.h5`` lies in ``options.out``.

    Raises:
        SourceMissing: the data is not there, or damaged; each fault has been said.
        ConfigError: recipe, split and folder do not fit together.
        ModelError: the checkpoint or the teacher cannot be used.
    """
    # 1. The data: found, whole, split.
    pairs = {pair.name: pair for pair in find_pairs(options.data)}
    require_sound(list(pairs.values()), say)
    split, remark = choose_split(recipe.split, sorted(pairs), asked_for=options.split_asked_for)
    if remark:
        say(remark)
    say(f"{len(split.train)} pictures train, {len(split.val)} validate (split {split.name})")
    recipe = _recipe_to_run(recipe, options, say)

    # 2. The folder, what was there before, the pictures in one file.
    _prepare_folder(options)
    state, progress = load_checkpoint(options.out, recipe) if options.resume else (None, Progress())
    plan = _plan(recipe, [pairs[name] for name in split.train], options.out)
    _write_note(recipe, split, options)

    # 3. The epochs. Batches depend on seed, epoch and place alone, so nothing else is needed to go on.
    say(
        f"{recipe.preset}: {plan.steps} steps an epoch, Keras on {keras.backend.backend()}, {_precision(recipe)}"
    )
    with Batches(plan, options.workers) as batches:
        run = _Run(recipe, options, batches, [pairs[name] for name in split.val], say)
        if state is not None:
            run.take_up(progress.epochs_done, state)
        elif options.init is not None:
            run.begin_with(options.init)
        return run.through(progress)


class _Run:
    """The epochs of one run: owns the learner, and the network that is validated and kept, both of one size."""

    def __init__(
        self, recipe: Recipe, options: RunOptions, batches: Batches, val: Sequence[Pair], say: Say
    ) -> None:
        self._recipe, self._options, self._batches = recipe, options, batches
        self._val, self._say = val, say
        self._px = 0
        self._learner: Any = None
        self._network: Any = None
        self._validator: Any = None

    def take_up(self, epochs_done: int, state: State) -> None:
        """Go on from a saved state."""
        self._learner_for(epochs_done)
        put_state(self._learner, state)
        copy_averaged(self._learner, self._network)

    def begin_with(self, weights: Path) -> None:
        """Begin with the weights of an earlier run's network rather than with fresh ones."""
        self._learner_for(0)
        try:
            self._network.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"--init: {weights}; not weights of {self._recipe.preset} ({error})") from error
        for layer in self._network.layers:
            if layer.weights:
                self._learner.get_layer(layer.name).set_weights(layer.get_weights())

    def through(self, progress: Progress) -> Progress:
        """Every epoch that is left: train, validate the averaged weights, keep, tell."""
        out, recipe = self._options.out, self._recipe
        events = EventLog(out / "tensorboard", progress.rows)
        started, drawn, first = time.monotonic(), time.monotonic(), progress.epochs_done
        last = min(recipe.epochs, self._options.stop_after or recipe.epochs)
        for epoch in range(first, last):
            self._learner_for(epoch)
            row = self._epoch(epoch)
            progress = self._kept(progress, row)
            events.write(row)
            write_csv(progress.rows, out / "curve.csv")
            save_checkpoint(out, state_of(self._learner), recipe, progress)
            if time.monotonic() - drawn > CURVE_EVERY_S:
                draw_curve(progress.rows, out / "curve.png", recipe.preset)
                drawn = time.monotonic()
            self._say(_line(row, progress, recipe, (time.monotonic() - started) / (epoch + 1 - first)))
        events.close()
        draw_curve(progress.rows, out / "curve.png", recipe.preset)
        _save_weights(self._network, out / "last.weights.h5")
        return progress

    def _learner_for(self, epoch: int) -> None:
        """Make learner, network and validator those of the epoch's input size; the learner keeps its state."""
        px = self._batches.plan.input_px(epoch)
        if px == self._px:
            return
        recipe, state = self._recipe, state_of(self._learner) if self._px else None
        self._network = build_resunet(replace(preset_config(recipe.preset), input_hw=(px, px)))
        self._validator = Validator(self._val, (px, px), recipe.loss)
        self._learner, self._px = _new_learner(recipe, self._options, self._batches.plan, px), px
        if state:
            put_state(self._learner, state)

    def _epoch(self, epoch: int) -> Row:
        """Train one epoch, and validate if it is due."""
        plan, recipe = self._batches.plan, self._recipe
        batches = self._batches.epoch(epoch)
        history = self._learner.fit(batches, steps_per_epoch=plan.steps, shuffle=False, verbose=0).history
        loss = float(history["loss"][-1])
        if not np.isfinite(loss):
            raise ModelError(
                f"training: loss {loss} in epoch {epoch + 1}; expected a number. Try: a lower rate"
            )
        row: Row = {
            "epoch": epoch + 1,
            "input_px": plan.input_px(epoch),
            "learning_rate": float(keras.ops.convert_to_numpy(self._learner.optimizer.learning_rate)),
            "loss": loss,
            "dice_soft_batch": float(history["dice_soft_batch"][-1]),
        }
        copy_averaged(self._learner, self._network)
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            row |= self._validator.measure(self._network)
        return row

    def _kept(self, progress: Progress, row: Row) -> Progress:
        """The progress one epoch on; writes ``best.weights.h5`` if none of this input size validated better."""
        grown = bool(progress.rows) and progress.rows[-1]["input_px"] != row["input_px"]
        rows = [*progress.rows, row]
        best = None if grown else progress.best_dice
        progress = replace(progress, epochs_done=len(rows), rows=rows, best_dice=best)
        dice = row.get("val_dice_per_image")
        if dice is None or (best is not None and dice <= best):
            return progress
        _save_weights(self._network, self._options.out / "best.weights.h5")
        return replace(progress, best_dice=float(dice), best_epoch=len(rows))


def _new_learner(recipe: Recipe, options: RunOptions, plan: BatchPlan, px: int) -> Learner:
    """A learner of one input size, compiled, from the recipe's seed."""
    config = replace(preset_config(recipe.preset), input_hw=(px, px))
    keras.config.set_dtype_policy(_precision(recipe))
    try:
        keras.utils.set_random_seed(recipe.seed)
        learner = build_learner(config, recipe.loss, _teacher(recipe, options, px))
        learner.compile(optimizer=build_optimiser(recipe.optimiser, plan.steps, recipe.epochs))
        learner.optimizer.build(learner.trainable_variables)
    finally:
        keras.config.set_dtype_policy("float32")
    return learner


def _teacher(recipe: Recipe, options: RunOptions, px: int) -> Any | None:
    if options.teacher is None:
        return None
    teacher = build_resunet(replace(preset_config(recipe.loss.teacher_preset), input_hw=(px, px)))
    try:
        teacher.load_weights(options.teacher)
    except (OSError, ValueError, KeyError) as error:
        preset = recipe.loss.teacher_preset
        raise ModelError(f"--teacher: {options.teacher}; not weights of {preset} ({error})") from error
    return teacher


def _recipe_to_run(recipe: Recipe, options: RunOptions, say: Say) -> Recipe:
    """The recipe, checked against the network; without a teacher's weights it has no teacher, which is said."""
    stride = preset_config(recipe.preset).stride
    for name, side in (("input_px", recipe.input_px), ("early_input_px", recipe.early_input_px)):
        if side % stride:
            raise ConfigError(f"recipe: {name}: {side}; expected a multiple of {stride} for {recipe.preset}")
    wanted = recipe.loss.teacher_weight > 0 and recipe.loss.teacher_preset
    if options.teacher and not wanted:
        raise ConfigError(f"--teacher: {options.teacher}; the recipe sets no loss.teacher_preset and weight")
    if options.teacher or not wanted:
        return recipe
    say(f"no --teacher: training without {recipe.loss.teacher_preset}")
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"teacher_weight": 0.0})})


def _prepare_folder(options: RunOptions) -> None:
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: {options.out}; cannot be made ({error.strerror})") from error
    if (options.out / FILE).exists() and not options.resume:
        raise ConfigError(f"--out: {options.out} holds a run. Try: --resume, or another folder")


def _plan(recipe: Recipe, pairs: list[Pair], out: Path) -> BatchPlan:
    """Decode the training pictures, and say how batches are made of them."""
    preset_px = max(preset_config(recipe.preset).input_hw)
    largest = round(STORE_MARGIN * max(recipe.input_px or preset_px, recipe.early_input_px))
    return BatchPlan(recipe, store_from_pairs(pairs, out / "pictures.u8", largest), preset_px)


def _precision(recipe: Recipe) -> str:
    if recipe.precision != "auto":
        return recipe.precision
    devices = [device.lower() for device in keras.distribution.list_devices()]
    on_gpu = any("gpu" in device or "cuda" in device for device in devices)
    return "mixed_bfloat16" if on_gpu else "float32"


def _line(row: Row, progress: Progress, recipe: Recipe, seconds: float) -> str:
    """One epoch in words, with the time left."""
    text = f"epoch {row['epoch']}/{recipe.epochs}  loss {row['loss']:.4f}"
    if row.get("val_dice_per_image") is not None:
        text += f"  val Dice per image {row['val_dice_per_image']:.4f}"
    if progress.best_dice is not None:
        text += f" (best {progress.best_dice:.4f} in {progress.best_epoch})"
    left = seconds * (recipe.epochs - progress.epochs_done)
    return f"{text}  {seconds:.1f} s an epoch, {int(left // 3600)} h {int(left % 3600 // 60)} min left"


def _save_weights(network: Any, path: Path) -> None:
    beside = path.with_name(f"beside-{path.name}")
    network.save_weights(beside)
    beside.replace(path)


def _write_note(recipe: Recipe, split: Split, options: RunOptions) -> None:
    """``recipe.json``: what a card and a reader of the folder need."""
    packages = ("endostream", "keras", keras.backend.backend(), "numpy", "opencv-python")
    note = {
        "recipe": recipe.model_dump(),
        "split": {"name": split.name, "train": len(split.train), "val": len(split.val)},
        "data": options.data.name,
        "teacher": None if options.teacher is None else options.teacher.name,
        "begun_with": _origin(options),
        "devices": keras.distribution.list_devices(),
        "precision": _precision(recipe),
        "backend": keras.backend.backend(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    (options.out / NOTE).write_text(json.dumps(note, indent=2) + "\n")


def _origin(options: RunOptions) -> dict[str, Any] | None:
    """The weights that the run began with, and how those were trained, where something beside them says so."""
    if options.init is None:
        return _note_in(options.out).get("begun_with") if options.resume else None
    folder = options.init.parent
    training = read_card(folder).get("training") or _note_in(folder) or None
    return {"sha256": sha256_of(options.init), "training": training}


def _note_in(folder: Path) -> dict[str, Any]:
    """What an earlier run left in ``recipe.json``, {} for nothing."""
    path = folder / NOTE
    note: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return note
