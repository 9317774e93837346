"""The commands ``infer-host`` and ``keys``, and the options by which a tower uses a host on another machine.

Separate from ``cli.py``, which is about playing video. What they do is imported when one is run.
"""

import importlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import log_lines
from .cli_options import AsJson, ConfigFile, LogFormat, RuntimeName, SegmenterName, Settings

InferHostAddress = Annotated[
    str | None,
    typer.Option(
        "--infer-host",
        metavar="tcp://HOST:PORT",
        help="Have masks computed by an endostream infer-host there.",
    ),
]
Keys = Annotated[
    str | None, typer.Option("--keys", metavar="DIR", help="CURVE keys, from endostream keys new.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the keys.")]

keys_app = typer.Typer(help="Make and show the keys of infer hosts and towers.", no_args_is_help=True)


class Role(StrEnum):
    """Whose pair of keys."""

    HOST = "host"
    TOWER = "tower"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("infer-host")(infer_host)
    app.add_typer(keys_app, name="keys")


def infer_host(
    listen: Annotated[
        str, typer.Option(metavar="tcp://ADDRESS:PORT", help="Where towers connect; port 0 for a free one.")
    ] = "tcp://127.0.0.1:5555",
    keys: Keys = None,
    segmenter: SegmenterName = None,
    runtime: RuntimeName = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    log_format: LogFormat = None,
) -> int:
    """Compute masks for towers on other machines until SIGINT or SIGTERM. Off the loopback keys are needed."""
    from endostream.configs.load import Override, load_config

    options = {
        "--segmenter": ("infer.segmenter", segmenter),
        "--runtime": ("infer.runtime", runtime),
        "--keys": ("infer.keys", keys),
        "--log-format": ("log.format", log_format),
    }
    named = [Override(key, text, option) for option, (key, text) in options.items() if text is not None]
    loaded = load_config(config, [*named, *(settings or [])])
    log_lines.set_up(loaded.config.log.format)
    totals: dict[str, Any] = importlib.import_module("endostream.pipeline.remote.infer_host_run").serve(
        listen, loaded.config
    )
    if as_json:
        print(json.dumps(totals, indent=2, ensure_ascii=False))
    else:
        for name, counts in totals["towers"].items():
            print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        for what in ("refused_connections", "refused_messages"):
            print(f"{what.replace('_', ' ')}: {totals[what]}")
    return 0


@keys_app.command("new")
def keys_new(
    folder: Folder,
    only: Annotated[Role | None, typer.Option(help="Only this side's pair; both by default.")] = None,
) -> None:
    """Make the keys of an infer host and of a tower in DIR; overwrites nothing."""
    curve_keys = importlib.import_module("endostream.pipeline.remote.curve_keys")
    roles = curve_keys.ROLES if only is None else (only.value,)
    for file in curve_keys.make_keys(folder, roles):
        whose = "secret: stays on its machine" if file.suffix == ".key_secret" else "public: to be copied"
        print(f"{file}  {whose}")


@keys_app.command("show")
def keys_show(folder: Folder) -> None:
    """Show the public halves in DIR, and what DIR can be used for."""
    print(importlib.import_module("endostream.pipeline.remote.curve_keys").keys_text(folder), end="")
