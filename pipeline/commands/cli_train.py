"""The commands ``train``, ``evaluate`` and ``export``: their options, handed on to
``endostream.train.commands``.

Separate from ``cli.py``, which is about playing video. The training package is found by name when a command
is run, so that help and live use import none of it.
"""

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import AsJson, RuntimeName

Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Folder with images/ and masks/, as Kvasir-SEG is unpacked."),
]
Preset = Annotated[str, typer.Option(metavar="NAME", help="resunet-small, resunet-base or resunet-paper.")]
Split = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="shared-900, official-880-120, pranet-900-100, seed42, drawn, or a folder."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the three commands."""
    for command in (train, evaluate, export):
        app.command()(command)


def train(
    data: Data,
    preset: Preset = "",
    recipe: Annotated[
        str, typer.Option(metavar="FILE", help="A YAML recipe, or small, base, small-cpu, paper.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run; by default runs/NAME.")
    ] = None,
    split: Split = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting of the recipe, e.g. epochs=50; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the run's folder.")
    ] = False,
    teacher: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of the recipe's teacher.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights to begin with instead of fresh ones.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Processes that make batches.")
    ] = None,
    threads: Annotated[
        int, typer.Option(metavar="N", min=0, help="TensorFlow's threads on a CPU; 0: its own choice.")
    ] = 0,
    backend: Annotated[str, typer.Option(metavar="NAME", help="Of Keras: tensorflow, jax or torch.")] = "",
    stop_after: Annotated[
        int | None, typer.Option(metavar="EPOCHS", min=1, help="End after so many in all, to be resumed.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option(help="The same seed gives the same numbers on a GPU too.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Train a network on Kvasir-SEG, or on data laid out like it."""
    commands = _commands()
    request = commands.TrainRequest(
        data=data,
        preset=preset,
        recipe=recipe,
        out=out,
        split=split,
        settings=tuple(settings or ()),
        resume=resume,
        teacher=teacher,
        init=init,
        workers=workers,
        threads=threads,
        backend=backend,
        stop_after=stop_after,
        deterministic=deterministic,
    )
    answer = commands.train_command(request)
    print(json.dumps(answer, indent=2) if as_json else commands.training_line(answer))


def evaluate(
    data: Data,
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="Which segmenter; endostream doctor lists them.")
    ] = "resunet-small",
    list_file: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Names of the pictures, one a line; else all."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the segmenter; may be repeated."),
    ] = None,
    runtime: RuntimeName = None,
    worst: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the worst cases.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw image, truth, FCM and this one side by side."),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures in that figure.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Measure a segmenter on pictures with masks: every metric, with its definition."""
    commands = _commands()
    given = commands.parse_options(options or [])
    request = commands.EvaluateRequest(
        segmenter, data, list_file, given, runtime or "auto", worst=worst, figure=figure, rows=rows
    )
    answer = commands.evaluate_command(request)
    print(json.dumps(answer, indent=2) if as_json else "\n".join(commands.evaluation_lines(answer)))


def export(
    data: Data,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a run of endostream train.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keras weights, instead of the run's best.")
    ] = None,
    preset: Preset = "",
    split: Split = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; by default the package's models/weights.")
    ] = None,
    int8: Annotated[
        bool, typer.Option(help="Also make the INT8 files, for the CPU and for TensorRT.")
    ] = True,
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="That the gates run on: openvino or onnxruntime.")
    ] = "openvino",
    as_json: AsJson = False,
) -> None:
    """Turn trained weights into ONNX, in float32 and INT8, each behind its gate, with a card."""
    commands = _commands()
    card = commands.export_command(
        run, data, preset=preset, weights=weights, out=out, int8=int8, runtime=runtime, split=split
    )
    if as_json:
        print(json.dumps(card, indent=2))


def _commands() -> Any:
    return importlib.import_module("endostream.train.commands")
