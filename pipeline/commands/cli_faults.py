"""The command ``faults``: its options, handed on to ``faults.py``. Separate from ``cli.py``, which is about playing."""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from endostream.configs.errors import ConfigError

from .cli_options import AsJson, ConfigFile, Report, SegmenterName, Settings


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(faults)


def faults(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A video file, played over and over, or phantom:.")
    ] = "phantom:1280x720@30",
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="NAME",
            help="preprocess, infer, overlay, source, recorder or supervisor; may be repeated.",
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="NAME",
            help="kill, stop, exception, memory, slow, garbage or disk-full; may be repeated.",
        ),
    ] = None,
    segmenter: SegmenterName = None,
    soak: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Instead of the matrix: one long run with a fault a minute."),
    ] = None,
    report: Report = None,
    pages: Annotated[
        list[Path] | None,
        typer.Option(
            "--markdown",
            metavar="FILE",
            help="Page to put the table into, between its markers; may be repeated.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture of the soak, PNG or SVG; needs matplotlib.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> int:
    """Do every fault to every stage of a live run, and measure what the picture does meanwhile.

    Exit code 5 if a promise is not kept: for every fault of preprocess and infer no frame lost, no freeze longer than
    two frame periods, annotation back in under 3 s; the ledger closed for all.
    """
    if soak is not None and soak <= 0:
        raise ConfigError(f"soak: {soak:g}; expected minutes above 0")
    if plot is not None and soak is None:
        raise ConfigError("plot: only of a soak. Try: --soak 30")
    module = importlib.import_module("endostream.pipeline.reliability.faults")
    request = module.FaultsRequest(
        source=source,
        stages=tuple(stages or ()),
        faults=tuple(kinds or ()),
        config_file=config,
        settings=tuple(settings or ()),
        report=report,
        pages=tuple(pages or ()),
        json=as_json,
        command=" ".join(["endostream", *ctx.obj["arguments"]]),
        soak_minutes=soak or 0.0,
        plot=plot,
        options={} if segmenter is None else {"infer.segmenter": segmenter},
    )
    code: int = module.faults_command(request)
    return code
