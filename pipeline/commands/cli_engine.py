"""The command ``endostream build-engine``: its options, handed on to ``models/trt_engine.py``.

Separate from ``cli.py``, which is about playing video. TensorRT is imported when the command is run.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endostream.configs.errors import ConfigError, ExitCode

from .cli_options import AsJson

if TYPE_CHECKING:
    from endostream.models.trt_engine import EngineFile, EngineRequest, Progress


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build-engine")(build_engine)


def build_engine(
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="Of which network: resunet-small, resunet-base, …")
    ] = "resunet-small",
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="tensorrt (data centre, workstation) or rtx (TensorRT-RTX).")
    ] = "tensorrt",
    precision: Annotated[str, typer.Option(metavar="NAME", help="fp32, fp16 or int8.")] = "fp16",
    target: Annotated[
        str,
        typer.Option(
            metavar="SM,…",
            help="One engine for these GPUs, e.g. sm86,sm89,sm120; by default the one that is here.",
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for it; by default the cache, where live use looks."),
    ] = None,
    model: Annotated[str, typer.Option(metavar="FILE.onnx", help="Another file of endostream export.")] = "",
    tf32: Annotated[bool, typer.Option("--tf32", help="Let float32 convolutions round to TF32.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Hold it against the network on real pictures; exit code 5 if it differs."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures for that, or images/ and masks/; by default ENDOSTREAM_DATA/kvasir-seg.",
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build it even if there is one.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make the TensorRT engine of a network, or find it in the cache."""
    from endostream.models.trt_engine import engine_for, request_for
    from endostream.models.trt_flavour import load_flavour

    from .. import engine_check

    folder = engine_check.data_folder(data, os.environ) if check else None
    targets = parse_targets(target)
    request = request_for(
        _preset(segmenter, model),
        load_flavour(runtime),
        precision,
        model,
        targets=targets,
        folder=out,
        tf32=tf32,
    )
    with _progress() as progress:
        engine = engine_for(request, progress, rebuild=rebuild)
    found = engine_check.check(request, engine, folder) if folder is not None else None
    answer = {
        "engine": str(engine.path),
        "origin": engine.origin,
        "refusal": engine.refusal or None,
        "record": engine.record,
        "check": found,
    }
    print(json.dumps(answer, indent=2) if as_json else "\n".join(_lines(request, engine, found)))
    if found is not None and not found["passed"]:
        print("endostream: check: not met; expected every step inside its limits", file=sys.stderr)
        return ExitCode.CHECK
    return ExitCode.DONE


def parse_targets(text: str) -> tuple[str, ...]:
    """``"sm86,sm89"`` taken apart. Raises ConfigError for what does not read so."""
    targets = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for target in targets:
        if not target.startswith("sm") or not target[2:].isdigit():
            raise ConfigError(
                f"--target: {target!r}; expected smNN, several with commas. Try: --target sm86,sm89,sm120"
            )
    if text and not targets:
        raise ConfigError(f"--target: {text!r}; expected smNN. Try: --target sm89")
    return targets


def _preset(segmenter: str, model: str) -> str:
    """The network's name: one of ours, or any ``resunet-…`` where its file is given."""
    from endostream.models.segmenter import SEGMENTERS

    networks = sorted(name for name in SEGMENTERS if name.startswith("resunet-"))
    if segmenter not in networks and not (model and segmenter.startswith("resunet-")):
        raise ConfigError(f"--segmenter: {segmenter!r}; expected a network: {', '.join(networks)}")
    return segmenter


def _lines(request: "EngineRequest", engine: "EngineFile", found: dict[str, Any] | None) -> list[str]:
    from ..engine_check import check_lines

    record = engine.record
    how = {"hit": "found in the cache", "built": "built", "rebuilt": "built again"}[engine.origin]
    took = "" if engine.origin == "hit" else f" in {record['build_s']:.1f} s"
    return [
        str(engine.path),
        f"{how}{took}: {request.preset} {record['precision']} for {', '.join(record['targets'])} by"
        f" {request.flavour.label}, {record['size_bytes'] / 1e6:.1f} MB",
        *(check_lines(found) if found is not None else []),
    ]


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """A bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("building engine", total=1.0)
        yield lambda phase, share: bar.update(task, description=phase, completed=share)
