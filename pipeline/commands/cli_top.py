"""The command ``endostream top``: its options, and nothing of what it does, which is imported when it is run."""

import importlib
from typing import Annotated

import typer

from .cli_options import AsJson


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Beginning of a run's id, or its process number.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show one picture and end.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two pictures.")] = 1.0,
    only_list: Annotated[bool, typer.Option("--list", help="Name the runs that are alive.")] = False,
    as_json: AsJson = False,
) -> int:
    """Watch a run that is going on: stages, queues, delays, drops; q ends watching, not the run."""
    command = importlib.import_module("endostream.pipeline.monitoring.top").top_command
    code: int = command(run, interval, once=once, as_json=as_json, only_list=only_list)
    return code
