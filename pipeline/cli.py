"""The command line: what can be asked for, and how a mistake is told.

Separate from what the commands do, which is imported only when one is run: ``--help`` costs nothing, and the
processes that a run spawns import this file again. An error of ours is one line on stderr and its exit code;
only ``ENDOSTREAM_DEBUG=1`` shows a traceback.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from endostream.configs.errors import ConfigError, EndostreamError, ExitCode, SinkError

from . import log_lines
from .commands import (
    cli_engine,
    cli_faults,
    cli_profile,
    cli_remote,
    cli_service,
    cli_top,
    cli_train,
    cli_witness,
)
from .commands.cli_options import (
    ONLY_CHECK,
    AsJson,
    Choice,
    ConfigFile,
    Finding,
    Limit,
    LogFormat,
    MaxLength,
    Metrics,
    MinLength,
    Quiet,
    Rate,
    Record,
    Report,
    RuntimeName,
    SegmenterName,
    Settings,
    Sinks,
    Size,
    Summary,
)
from .commands.cli_remote import InferHostAddress, Keys

if TYPE_CHECKING:
    from endostream.configs.load import LoadedConfig, Override

app = typer.Typer(
    name="endostream",
    help="Live endoscopy video through a polyp segmenter, with the delay measured. Research use only.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if version:
        print(f"endostream {metadata.version('endostream')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command()
def replay(
    ctx: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Video files, folders of pictures, or phantom:."),
    ] = None,
    segmenter: SegmenterName = None,
    runtime: RuntimeName = None,
    speed: Annotated[
        str | None, typer.Option(metavar="SPEED", help="realtime, fastest, or e.g. 0.5x.")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="live, every-frame, or auto.")] = None,
    loop: Annotated[str | None, typer.Option(metavar="N", help="Play N times, 0 for ever.")] = None,
    start: Annotated[str | None, typer.Option(metavar="SECONDS", help="Stream time to begin at.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="SECONDS", help="Stream time to play.")] = None,
    infer_host: InferHostAddress = None,
    keys: Keys = None,
    sinks: Sinks = None,
    report: Report = None,
    summary: Summary = None,
    record: Record = None,
    metrics: Metrics = None,
    log_format: LogFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    catalogue: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Play recordings chosen from this catalogue instead.")
    ] = None,
    finding: Finding = None,
    size: Size = None,
    fps: Rate = None,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    limit: Limit = None,
) -> int:
    """Play recordings through the pipeline."""
    options = {
        "--segmenter": ("infer.segmenter", segmenter),
        "--runtime": ("infer.runtime", runtime),
        "--speed": ("replay.speed", speed),
        "--mode": ("replay.mode", mode),
        "--loop": ("replay.loop", loop),
        "--start": ("replay.start_s", start),
        "--duration": ("replay.duration_s", duration),
        **_telling(metrics, log_format),
        "--infer-host": ("infer.host", infer_host),
        "--keys": ("infer.keys", keys),
    }
    choice = Choice(finding, size, fps, min_length, max_length, limit)
    addresses = choice.sources(sources or [], catalogue)
    loaded, recorded_masks = _playback(config, settings, options, addresses)
    return _run(
        ctx,
        addresses,
        sinks or [],
        report,
        loaded,
        as_json=as_json,
        quiet=quiet,
        summary=summary,
        record=record,
        recorded_masks=recorded_masks,
    )


@app.command()
def live(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE_OR_URL", help="/dev/video0, rtsp://…, srt://…, udp://…, pipe:COMMAND."
        ),
    ],
    segmenter: SegmenterName = None,
    runtime: RuntimeName = None,
    duration: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="End so long after the first picture.")
    ] = None,
    infer_host: InferHostAddress = None,
    keys: Keys = None,
    sinks: Sinks = None,
    report: Report = None,
    summary: Summary = None,
    record: Record = None,
    metrics: Metrics = None,
    log_format: LogFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Show a capture device, a stream or a command's pictures, live, and come back after every loss of signal.

    endostream doctor lists devices. A pipe: writes YUV4MPEG2 to its stdout; x11grab: and lavfi: are FFmpeg's.
    """
    from endostream.configs.load import Override

    from .source import is_live
    from .sources.live_address import redacted
    from .sources.live_hints import address_hint

    if not source or not is_live(source):
        known = "/dev/videoN, rtsp://, srt://, udp://, rtp://, tcp://, pipe:, x11grab: or lavfi:"
        raise ConfigError(f"live: {redacted(source)!r}; expected {known}. Try: {address_hint(source)}")
    fixed = {"replay.mode": "live", "replay.speed": "realtime", "replay.loop": "1", "replay.start_s": "0"}
    always = [Override(key, text, "endostream live") for key, text in fixed.items()]
    options = {
        "--segmenter": ("infer.segmenter", segmenter),
        "--runtime": ("infer.runtime", runtime),
        "--duration": ("replay.duration_s", duration),
        **_telling(metrics, log_format),
        "--infer-host": ("infer.host", infer_host),
        "--keys": ("infer.keys", keys),
    }
    loaded = _load(config, [*always, *(settings or [])], options)
    if loaded.config.effective_mode() != "live":
        raise ConfigError("replay.mode: every-frame; expected live: a live source does not wait")
    return _run(
        ctx,
        [source],
        sinks or [],
        report,
        loaded,
        as_json=as_json,
        quiet=quiet,
        summary=summary,
        record=record,
    )


@app.command()
def catalogue(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of videos, or HyperKvasir's metadata.")
    ],
    finding: Finding = None,
    size: Size = None,
    fps: Rate = None,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    limit: Limit = None,
    check: Annotated[bool, typer.Option(help="Open the files and compare them with the metadata.")] = True,
    as_json: AsJson = False,
) -> int:
    """List and count recordings, and say which files are wrong."""
    wanted = Choice(finding, size, fps, min_length, max_length, limit).selection()
    table = importlib.import_module("endostream.replay.catalogue_table")
    code: int = table.catalogue_command(directory, wanted, check, as_json)
    return code


@app.command()
def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for video, log and report.")] = Path(
        "out/demo"
    ),
    seconds: Annotated[str | None, typer.Option(metavar="SECONDS", help="How long to play.")] = None,
    segmenter: SegmenterName = None,
    runtime: RuntimeName = None,
    record: Record = None,
    metrics: Metrics = None,
    log_format: LogFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
) -> int:
    """Play a rendered colon live, without file, camera or GPU."""
    options = {
        "--segmenter": ("infer.segmenter", segmenter),
        "--runtime": ("infer.runtime", runtime),
        "--seconds": ("phantom.duration_s", seconds),
        **_telling(metrics, log_format),
    }
    loaded = _load(config, settings, options)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"out: {out}; cannot be made ({error.strerror}). Try: --out DIR") from error
    video, log, report = out / "demo.mp4", out / "demo.jsonl", out / "report.json"
    code = _run(
        ctx, ["phantom:"], [f"video:{video}", f"jsonl:{log}"], report, loaded, quiet=quiet, record=record
    )
    for name, path in (("video", video), ("log", log), ("report", report)):
        if path.exists():
            print(f"{name + ':':8}{path}")
    return code


@app.command()
def config(
    show: Annotated[
        bool, typer.Option("--show", help="The merged result and where each value came from.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Every setting: sentence, unit, default, range.")
    ] = False,
    template: Annotated[bool, typer.Option("--template", help="A commented file to begin with.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what is set, from where, and what can be set."""
    from endostream.configs import describe

    if show + schema + template > 1:
        raise ConfigError("config: --show, --schema and --template; expected only one of them")
    if schema:
        print(describe.schema_json() if as_json else describe.schema_text(), end="")
    elif template:
        print(describe.template_yaml(), end="")
    else:
        loaded = _load(config, settings, {})
        print(describe.config_json(loaded) if as_json else describe.config_yaml(loaded), end="")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine, and what not and why."""
    from .doctor import diagnosis, diagnosis_text

    found = diagnosis()
    if as_json:
        import json

        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(diagnosis_text(found), end="")


cli_engine.add_to(app)
cli_profile.add_to(app)
cli_train.add_to(app)
cli_top.add_to(app)
cli_witness.add_to(app)
cli_faults.add_to(app)
cli_remote.add_to(app)
cli_service.add_to(app)


def _telling(metrics: str | None, log_format: str | None) -> dict[str, tuple[str, str | None]]:
    """The options that say what a run tells of itself."""
    return {"--metrics": ("metrics.listen", metrics), "--log-format": ("log.format", log_format)}


def _playback(
    config: Path | None,
    settings: Sequence[str] | None,
    options: dict[str, tuple[str, str | None]],
    addresses: Sequence[str],
) -> "tuple[LoadedConfig, bool]":
    """The configuration of a replay, and whether recorded masks stand in for the network."""
    from .sessions.playback import playback_overrides, plays_recorded_masks

    given = list(settings or [])
    if not plays_recorded_masks(addresses, options["--segmenter"][1], given):
        return _load(config, given, options), False
    overrides = playback_overrides(addresses, options["--mode"][1], given)
    return _load(config, [*overrides, *given], options), True


def _load(
    file: Path | None,
    settings: "Sequence[str | Override] | None",
    options: dict[str, tuple[str, str | None]],
) -> "LoadedConfig":
    """The configuration; the named options count as ``--set`` before those given."""
    from endostream.configs.load import Override, load_config

    named = [Override(key, text, option) for option, (key, text) in options.items() if text is not None]
    return load_config(file, [*named, *(settings or [])])


def _run(
    ctx: typer.Context,
    sources: Sequence[str],
    sinks: Sequence[str],
    report: Path | None,
    loaded: "LoadedConfig",
    *,
    as_json: bool = False,
    quiet: bool = False,
    summary: Path | None = None,
    record: Path | None = None,
    recorded_masks: bool = False,
) -> int:
    from .request import check_words, checked_request

    if ctx.obj.get(ONLY_CHECK):
        check_words(loaded.config, sinks)
        return ExitCode.DONE
    log_lines.set_up(loaded.config.log.format)
    command = ["endostream", *ctx.obj["arguments"]]
    request = checked_request(
        sources,
        sinks,
        report,
        loaded,
        json=as_json,
        quiet=quiet,
        command=command,
        summary=summary,
        record=record,
        recorded_masks=recorded_masks,
    )
    code: int = importlib.import_module("endostream.pipeline.app").run(request)
    return code


def run_command(arguments: Sequence[str]) -> int:
    """Do what a command line asks for and say what went wrong; returns the exit code."""
    log_lines.set_up(log_lines.asked_format(arguments))
    try:
        code = app(
            args=list(arguments),
            prog_name="endostream",
            standalone_mode=False,
            obj={"arguments": list(arguments)},
        )
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        return _failed(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _failed(error: Exception) -> int:
    """Tell an error in a line and return its exit code."""
    if os.environ.get("ENDOSTREAM_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, EndostreamError):
        lines, code = str(error).splitlines(), error.exit_code
    elif isinstance(error, typer.TyperException):
        lines, code = [_usage_line(error)], ExitCode.USAGE
    elif isinstance(error, typer.Abort):
        lines, code = [], ExitCode.INTERRUPTED
    else:
        said = " ".join(str(error).split())
        lines = [f"unexpected {type(error).__name__}: {said}. Try: ENDOSTREAM_DEBUG=1 for where"]
        code = ExitCode.FAILED
    for line in lines:
        if log_lines.is_json():
            log_lines.logger.error("%s", line, extra={"event": "failed", "fields": {"exit_code": int(code)}})
        else:
            print(f"endostream: {line}", file=sys.stderr)
    return code


def _usage_line(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where its help is."""
    ctx: Any = getattr(error, "ctx", None)
    command = ctx.command_path if ctx is not None else "endostream"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}{' ' if message.endswith('?') else '. '}Try: {command} --help"


def _reader_gone() -> int:
    """Nobody reads our output any more, e.g. ``| head``: end quietly; what is left to flush goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAILED


def main() -> NoReturn:
    """Entry point of the command ``endostream``."""
    sys.exit(int(run_command(sys.argv[1:])))
