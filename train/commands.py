"""What ``endostream train``, ``evaluate`` and ``export`` do, without the command line around it.

Separate from ``pipeline/cli.py``, which takes the options apart, and from the parts, which do not know that
they are run by a command: here the backend of Keras is chosen before Keras is imported, and results become
text.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, ModelError

BACKENDS = ("tensorflow", "jax", "torch")
PERCENT_ROWS = (
    "dice_per_image",
    "iou_per_image",
    "dice_per_image_median",
    "dice_per_image_p5",
    "dice_per_image_share_under_0_5",
    "dice_soft_batch",
    "miou_two_class_pooled",
    "miou_two_class_thresholds",
    "dice_pooled",
    "iou_pooled",
    "mdice_256",
    "miou_256",
    "precision_per_image",
    "recall_per_image",
    "specificity_per_image",
    "accuracy_per_image",
    "boundary_f_per_image",
    "box_precision",
    "box_recall",
)


def say_on_stderr(line: str) -> None:
    """Progress goes to stderr, a line at a time."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """The options of ``endostream train``; empty text and None mean "not given".

    Attributes:
        data: data set's folder.
        preset: whose recipe; ``recipe`` goes before it.
        recipe: a recipe's file or name.
        out: the run's folder; by default ``runs/NAME``.
        split: instead of the recipe's.
        settings: ``KEY=VALUE`` over the recipe.
        resume: go on from the checkpoint in ``out``.
        teacher: weights file of the teacher.
        init: weights file to begin with instead of fresh weights.
        workers: processes that make batches; None for one less than the cores, at most 12.
        threads: of TensorFlow on the CPU; 0 for its own choice.
        backend: of Keras; by default KERAS_BACKEND, else the first of BACKENDS that is installed.
        stop_after: end after so many epochs, to be resumed.
        deterministic: the same seed gives the same numbers, on a GPU too, at some cost in time.
    """

    data: Path
    preset: str = ""
    recipe: str = ""
    out: Path | None = None
    split: str = ""
    settings: tuple[str, ...] = ()
    resume: bool = False
    teacher: Path | None = None
    init: Path | None = None
    workers: int | None = None
    threads: int = 0
    backend: str = ""
    stop_after: int | None = None
    deterministic: bool = True


def train_command(request: TrainRequest, say: Callable[[str], None] = say_on_stderr) -> dict[str, Any]:
    """Train; returns where the weights are and how good they were, ready for JSON.

    Raises:
        EndostreamError: as ``train.train`` does, or no backend is installed.
    """
    from .kvasir import find_pairs, require_sound
    from .recipe import load_recipe

    name = request.recipe or request.preset or "resunet-small"
    settings = [*request.settings, *([f"split={request.split}"] if request.split else [])]
    recipe = load_recipe(name, settings)
    if request.preset and recipe.preset != request.preset:
        raise ConfigError(f"--preset: {request.preset}; the recipe {name} is for {recipe.preset}")
    for option, weights in (("--teacher", request.teacher), ("--init", request.init)):
        if weights is not None and not weights.is_file():
            raise ModelError(f"{option}: {weights}; no such file. Try: best.weights.h5 of a run")
    require_sound(find_pairs(request.data), say)  # before what takes long to load, or is not installed
    choose_backend(request.backend, request.threads, deterministic=request.deterministic)
    from .train import RunOptions, train

    out = request.out or Path("runs") / Path(name).stem
    workers = max(0, min(12, _cores() - 1)) if request.workers is None else request.workers
    options = RunOptions(
        data=request.data,
        out=out,
        resume=request.resume,
        split_asked_for=bool(request.split),
        teacher=request.teacher,
        init=request.init,
        workers=workers,
        stop_after=request.stop_after,
    )
    try:
        progress = train(recipe, options, say)
    except KeyboardInterrupt:
        from .checkpoint import FILE as CHECKPOINT

        if (out / CHECKPOINT).exists():
            say("interrupted; whole epochs are kept. Try: the same command with --resume")
        raise
    best = out / "best.weights.h5"
    return {
        "weights": str(best if best.is_file() else out / "last.weights.h5"),
        "epochs_done": progress.epochs_done,
        "best_epoch": progress.best_epoch,
        "best_val_dice_per_image": progress.best_dice,
        "last": progress.rows[-1] if progress.rows else None,
    }


def training_line(answer: dict[str, Any]) -> str:
    """An answer of ``train_command`` as a line for a person; a run that was ended early may not have validated."""
    dice = answer["best_val_dice_per_image"]
    if dice is None:
        return f"{answer['weights']}: {answer['epochs_done']} epochs done, not validated yet"
    return f"{answer['weights']}: validation Dice per image {dice:.4f}, epoch {answer['best_epoch']}"


def choose_backend(backend: str = "", threads: int = 0, *, deterministic: bool = True) -> str:
    """Set Keras's backend and its environment; must come before Keras is imported. Returns the backend.

    Raises:
        ConfigError: no such backend.
        ModelError: it, or Keras, is not installed.
    """
    wanted = backend or os.environ.get("KERAS_BACKEND", "")
    if wanted and wanted not in BACKENDS:
        raise ConfigError(f"--backend: {wanted!r}; expected one of {', '.join(BACKENDS)}")
    installed = [name for name in BACKENDS if find_spec(name) is not None]
    if find_spec("keras") is None or not installed or (wanted and wanted not in installed):
        missing = "keras" if find_spec("keras") is None else wanted or " or ".join(BACKENDS)
        remedy = wanted if wanted in ("jax", "torch") and missing == wanted else "'endostream[train]'"
        raise ModelError(f"training: {missing} is not installed. Try: pip install {remedy}")
    chosen = wanted or installed[0]
    os.environ["KERAS_BACKEND"] = chosen
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if threads:
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = str(threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    if deterministic:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"
        flags = os.environ.get("XLA_FLAGS", "")
        if "deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    return chosen


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The options of ``endostream evaluate``.

    Attributes:
        segmenter: registry name.
        data: data set's folder.
        list_file: names of the pictures; None for all.
        options: the segmenter's own.
        runtime: what computes it, where it has the choice.
        worst: file for the sheet of the worst cases, or None.
        worst_count: how many are on it.
        figure: file for the paper's Fig. 3, or None.
        against: segmenters beside ours in that figure.
        rows: pictures in that figure.
    """

    segmenter: str
    data: Path
    list_file: Path | None = None
    options: dict[str, Any] | None = None
    runtime: str = "auto"
    worst: Path | None = None
    worst_count: int = 12
    figure: Path | None = None
    against: tuple[str, ...] = ("fcm",)
    rows: int = 4


def evaluate_command(request: EvaluateRequest, say: Callable[[str], None] = say_on_stderr) -> dict[str, Any]:
    """Measure a segmenter; returns every metric, ready for JSON.

    Raises:
        EndostreamError: no such segmenter, model, data or list; each fault of the data has been said.
    """
    from endostream.models.segmenter import check_segmenter_name, load_segmenter

    from .evaluate import evaluate, pairs_to_evaluate
    from .figures import comparison, require_picture_name, worst_sheet, write_picture

    check_segmenter_name(request.segmenter)
    for option, path in (("--worst", request.worst), ("--figure", request.figure)):
        require_picture_name(option, path)  # before minutes are spent on what could not be written
    pairs = pairs_to_evaluate(request.data, request.list_file, say)
    if "keras" in (request.segmenter, request.runtime, (request.options or {}).get("runtime")):
        choose_backend()
    segmenter = load_segmenter(request.segmenter, request.options, request.runtime, _each_tenth(say))
    say(f"{len(pairs)} pictures through {segmenter.info.name} ({segmenter.info.runtime})")
    found = evaluate(segmenter, pairs, request.data)
    if request.worst is not None:
        sheet = worst_sheet(segmenter, found.scores, pairs, request.worst_count)
        write_picture(sheet, request.worst)
    if request.figure is not None:
        others = [load_segmenter(name) for name in request.against if name != request.segmenter]
        write_picture(comparison(pairs[: request.rows], [*others, segmenter]), request.figure)
        for other in others:
            other.close()
    answer = found.as_json(segmenter)
    segmenter.close()
    return {"data": str(request.data), "list": str(request.list_file or "all"), **answer}


def _each_tenth(say: Callable[[str], None]) -> Callable[[str, int], None]:
    """Says how far a building is, at each tenth of it."""
    said: set[tuple[str, int]] = set()

    def progress(what: str, percent: int) -> None:
        tenth = (what, percent // 10)
        if tenth not in said:
            said.add(tenth)
            say(f"{what} {percent} %")

    return progress


def evaluation_lines(answer: dict[str, Any]) -> list[str]:
    """An answer of ``evaluate_command`` as lines for a person."""
    low, high = answer["dice_per_image_ci95"]
    speed = answer["speed"]
    lines = [
        f"{answer['segmenter']} ({answer['runtime']}) on {answer['images']} pictures",
        f"  95 % interval of dice_per_image        {low:.4f} to {high:.4f}",
    ]
    lines += [f"  {name:<38} {_number(answer[name])}" for name in PERCENT_ROWS]
    clean = answer["empty_truth"]
    lines.append(
        f"  pictures without polyp {clean['images']}, left clean {_number(clean['share_left_clean'])}"
    )
    lines.append(
        f"  segment: p50 {speed['p50_ms']:.2f} ms, p99 {speed['p99_ms']:.2f} ms, {speed['fps']:.0f} fps"
    )
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def export_command(
    run: Path | None,
    data: Path,
    *,
    preset: str = "",
    weights: Path | None = None,
    out: Path | None = None,
    int8: bool = True,
    runtime: str = "openvino",
    split: str = "",
    say: Callable[[str], None] = say_on_stderr,
) -> dict[str, Any]:
    """Export a run, or a weights file with its preset; returns the card.

    Raises:
        EndostreamError: as ``export.export`` does, or neither a run nor weights and preset were given.
    """
    note = _run_note(run) if run is not None else {}
    preset = preset or note.get("preset", "")
    weights = weights or (run / "best.weights.h5" if run is not None else None)
    if not preset or weights is None:
        raise ConfigError(
            "export: nothing to export; expected --run DIR, or --weights FILE with --preset NAME"
        )
    if not weights.is_file():
        raise ModelError(f"export: {weights}; no such file. Try: endostream train first")
    for package in ("onnx", *(("nncf", "onnxruntime") if int8 else ())):
        if find_spec(package) is None:
            raise ModelError(f"export: {package} is not installed. Try: pip install 'endostream[train]'")
    choose_backend()
    from endostream.models.weights_files import preset_folder

    from .export import ExportOptions, export

    chosen = split or note.get("split", "shared-900")
    return export(
        ExportOptions(preset, weights, data, chosen, out or preset_folder(preset), int8, runtime), say
    )


def _run_note(run: Path) -> dict[str, str]:
    """Preset and split of a run. Raises ConfigError if there is none in ``run``."""
    path = run / "recipe.json"
    try:
        recipe = json.loads(path.read_text())["recipe"]
        return {"preset": recipe["preset"], "split": recipe["split"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--run: {run}; no run of endostream train in it ({path.name}: {error})") from error


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` options of a segmenter as a dictionary. Raises ConfigError for anything else."""
    from endostream.configs.yaml_text import parse_value

    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(f"--option: {text!r}; expected KEY=VALUE. Try: --option threads=2")
        options[key.strip()] = parse_value(value.strip())
    return options
