"""The command ``profile`` with its subcommands ``compare``, ``check`` and ``report``: their options, handed on to
``endostream.pipeline.profile.commands``.

Separate from ``cli.py``, which is about playing video. What does the work is imported when a command is run. A first
word that is no subcommand is a source or an option of a new profile.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from endostream.configs.errors import ConfigError

from .cli_options import AsJson, ConfigFile, Quiet, Settings, Sinks

_DEFAULT = "run"
_LONGEST_S = 1e7
"""Of a run: a hundred days and more, and no infinity."""


class _ProfileGroup(TyperGroup):
    """A group whose first word may be left out: without a subcommand it makes a profile."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default's name before words that name no subcommand, ``--help`` among them."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else [_DEFAULT, *args])


def add_to(app: typer.Typer) -> None:
    """Add the command and its subcommands."""
    group = typer.Typer(
        name="profile",
        cls=_ProfileGroup,
        help="Measure the pipeline's delays; compare two; write a report. Also: profile compare, check, report.",
        add_completion=False,
        rich_markup_mode=None,
    )
    group.command(_DEFAULT, hidden=True)(profile)
    group.command("compare")(compare)
    group.command("check")(check)
    group.command("report")(report)
    app.add_typer(group)


def profile(
    ctx: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Recordings, decoded beforehand, phantom:, or a live source."),
    ] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="A,B", help="Segmenters.")] = None,
    runtime: Annotated[
        str | None, typer.Option(metavar="A,B", help="Runtimes of a network, e.g. openvino.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH,WxH", help="Sizes to resize to; else the source's own.")
    ] = None,
    rate: Annotated[str | None, typer.Option(metavar="FPS,FPS", help="Rates; else the source's own.")] = None,
    pace: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="live (default): as due; back-to-back: as fast as it goes."),
    ] = None,
    launcher: Annotated[str | None, typer.Option(metavar="A,B", help="processes (default), threads.")] = None,
    warm_up: Annotated[
        float,
        typer.Option(
            "--warm-up", metavar="SECONDS", min=0.0, max=_LONGEST_S, help="Left out at the beginning."
        ),
    ] = 2.0,
    first_frames: Annotated[
        bool, typer.Option("--first-frames", help="Count the first frames too: no warm-up.")
    ] = False,
    duration: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=_LONGEST_S, help="Of each run, without warm-up.")
    ] = 20.0,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of each cell.")] = 3,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that comes of it.")] = Path(
        "out/profile"
    ),
    external: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Measure this program too, from outside: '{input}' becomes a YUV4MPEG2 pipe; may be repeated.",
        ),
    ] = None,
    budgets: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="KEY=LIMIT",
            help="video_delay.p99=5.75ms, dropped=0, …: exit code 5 if not kept; may be repeated.",
        ),
    ] = None,
    sinks: Sinks = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure the whole pipeline: every combination of what is given, several times, into tables, curves and a trace.

    endostream profile compare A B compares two; endostream profile check FILE --budget holds one, or the report of any
    run, to limits; endostream profile report DIR --cfr FILE writes a report.
    """
    commands = _commands()
    dimensions = {"segmenter": segmenter, "runtime": runtime, "size": size, "rate": rate}
    given = commands.ProfileOptions(
        sources=sources or [],
        out=out,
        dimensions={**dimensions, "pace": pace, "launcher": launcher},
        warm_up_s=warm_up,
        first_frames=first_frames,
        duration_s=duration,
        repeats=repeats,
        external=external or [],
        budgets=budgets or [],
        options=tuple(_passed_on(sinks, config, settings)),
        as_json=as_json,
        quiet=quiet,
        command=["endostream", *ctx.obj["arguments"]],
    )
    code: int = commands.profile_command(given)
    return code


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A profile.json, or its folder.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with curves side by side.")
    ] = None,
    budgets: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="KEY=LIMIT",
            help="How much worse B may be: video_delay.p99=0.5ms or 10%; exit code 5 if it is more.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say what changed from one profile to another, with intervals, and when the machines differ."""
    code: int = _commands().compare_command(before, after, html, budgets or [], as_json)
    return code


def check(
    made: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A profile.json, or what replay or live --report has written."),
    ],
    budgets: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="KEY=LIMIT",
            help="video_delay.p99=5.75ms, infer.service.max=30ms, dropped=0, …; may be repeated.",
        ),
    ] = None,
) -> int:
    """Hold a profile, or the report of any run, against budgets: a line each, exit code 5 if one is broken."""
    code: int = _commands().check_command(made, budgets or [])
    return code


def report(
    ctx: typer.Context,
    made: Annotated[
        Path | None,
        typer.Argument(metavar="PROFILE", help="A profile.json, or its folder; else one is made."),
    ] = None,
    cfr: Annotated[
        Path | None, typer.Option("--cfr", metavar="FILE", help="Where the report goes, as HTML.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Recording to compare pixel by pixel; else the profile's."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of endostream evaluate --json; else the card of the weights."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.1, max=_LONGEST_S, help="Compare only so much; else all of it."
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> int:
    """Write a report in the order of 21 CFR 876.1520(b)(2): no clearance, but what was measured, with the commands."""
    if cfr is None:
        raise ConfigError("report: no place for it. Try: --cfr report.html")
    commands = _commands()
    given = commands.ReportOptions(
        profile=made,
        cfr=cfr,
        source=source,
        evaluation=evaluation,
        options=tuple(_passed_on(None, config, settings)),
        duration_s=duration,
        as_json=as_json,
        command=["endostream", *ctx.obj["arguments"]],
    )
    code: int = commands.report_command(given)
    return code


def _passed_on(sinks: list[str] | None, config: Path | None, settings: list[str] | None) -> list[str]:
    """Options that go to each run as they were typed."""
    words = [word for sink in sinks or [] for word in ("--sink", sink)]
    words += ["--config", str(config)] if config is not None else []
    return words + [word for setting in settings or [] for word in ("--set", setting)]


def _commands() -> Any:
    return importlib.import_module("endostream.pipeline.profile.commands")
