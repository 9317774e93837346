"""The commands ``endostream witness …``: a delay measured by what is on the screen, without trusting anybody's stamps.

Separate from ``cli.py``, which is about playing video; what a command does is imported when it is run.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from endostream.configs.errors import ConfigError, ExitCode, SinkError, SourceMissing

from .cli_options import AsJson

app = typer.Typer(
    help="Measure any pipeline from outside: a code in the picture, read again from the screen or a file.",
    rich_markup_mode=None,
)

Base = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Pictures under the codes: phantom:WxH@FPS or a file.")
]
RateText = Annotated[
    str, typer.Option("--rate", metavar="FPS", help="25, 30000/1001; default: the source's own.")
]
Frames = Annotated[int, typer.Option(min=2, metavar="N", help="Frames to send.")]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault", metavar="KIND@N", help="drop, repeat, swap or tear frame N on purpose; may be repeated."
    ),
]
Display = Annotated[str | None, typer.Option(metavar=":N", help="X display; default DISPLAY, else an Xvfb.")]
Rest = Annotated[float, typer.Option("--rest-ms", min=0.0, max=100.0, help="Pause between two looks.")]
_BASE = "phantom:720x576@25"


def add_to(root: typer.Typer) -> None:
    """Add the group of commands."""
    root.add_typer(app, name="witness")


@app.command()
def play(
    source: Base = _BASE,
    out: Annotated[str, typer.Option(metavar="PIPE", help="Named pipe or file; - for stdout.")] = "-",
    rate: RateText = "",
    frames: Frames = 750,
    faults: Faults = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was sent when, as JSON lines.")
    ] = None,
) -> int:
    """Write pictures with a code in each, at their due times, as YUV4MPEG2."""
    from ..clock import MonotonicClock
    from ..witness import witness_play as sender

    plan = sender.planned(frames, sender.faults_of(faults or []))
    fps = _rate(source, rate)
    base = sender.base_pictures(source)
    slots = sender.SlotLog(log)
    try:
        with sender.open_pipe(out) as pipe:
            slots.slots.extend(sender.play(base, fps, plan, pipe, MonotonicClock()))
    except BrokenPipeError:
        print("endostream: witness: the receiver has gone", file=sys.stderr)
        return ExitCode.FAILED
    finally:
        slots.close()
    return ExitCode.DONE


@app.command()
def measure(
    command: Annotated[
        str, typer.Argument(metavar="COMMAND", help="Shell words, {input} for the pipe's path.")
    ],
    source: Annotated[str, typer.Option(metavar="SOURCE", help="Pictures under the codes.")] = _BASE,
    rate: RateText = "",
    frames: Frames = 750,
    faults: Faults = None,
    display: Display = None,
    rest_ms: Rest = 1.0,
    stamps: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log of our sink jsonl: of the same run, to compare.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Result with every sighting, as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure a program that shows YUV4MPEG2 from a pipe in a window: delay, lost, repeated, torn, reordered frames."""
    from ..request import check_output_file
    from ..witness import witness_measure as work
    from ..witness.witness_verdict import against_stamps

    if out is not None:
        check_output_file("out", out)

    asked = work.Measurement(
        command, source, _size(source), _rate(source, rate), frames, tuple(faults or ()), display, rest_ms
    )
    measured = work.measure(asked)
    extra = (
        {"against_stamps": against_stamps(measured.seen, work.stamps_of(stamps, measured.slots))}
        if stamps
        else {}
    )
    result = work.measured_json(asked, measured, extra)
    if out is not None:
        _write(
            out, {**result, "sightings": [[each.number, each.after_ns, each.by_ns] for each in measured.seen]}
        )
    print(json.dumps(result, indent=2) if as_json else measured_text(result))
    if measured.incomplete:
        print(f"endostream: witness: {measured.incomplete}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.DONE


@app.command()
def calibrate(
    trials: Annotated[int, typer.Option(min=10, metavar="N", help="Pictures to show.")] = 300,
    display: Display = None,
    rest_ms: Rest = 1.0,
    as_json: AsJson = False,
) -> int:
    """State the witness's own error: what it says of pictures whose time on the screen is known."""
    from ..witness.witness_measure import calibrate as run

    result = run(display, trials, rest_ms)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        error, half = result["error_ms"], result["half_width_ms"]
        print(f"{result['seen']} of {result['trials']} pictures seen")
        print(
            f"witness less truth: {result['least_ms']} to {error['max']} ms, p50 {error['p50']}, p99 {error['p99']}"
        )
        print(
            f"half of the time between two looks: p50 {half['p50']} ms, p99 {half['p99']}, max {half['max']}"
        )
    if result["contradicted"] or not result["seen"]:
        print(f"endostream: witness: wrong about pictures {result['contradicted']}", file=sys.stderr)
        return ExitCode.CHECK
    return ExitCode.DONE


@app.command()
def read(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of pictures with codes.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Size in which the codes were drawn; else the recording's own."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The sender's log of what was sent.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Read the codes of a recording: which frames are lost, repeated, torn or out of order. Exit code 5 if any is."""
    from dataclasses import asdict

    from ..witness.witness_file import seen_in_file
    from ..witness.witness_play import slots_of
    from ..witness.witness_verdict import judge

    seen, unreadable = seen_in_file(file, None if size is None else _wh(size))
    if not seen:
        drawn = "its own size" if size is None else size
        raise SourceMissing(
            f"witness: {file}; no code of {drawn} in any frame. Try: --size WxH as it was sent"
        )
    slots = None if log is None else slots_of(log)
    verdict = judge(seen, slots, 0.0, file=True)
    faulty = bool(verdict.lost or verdict.repeated or verdict.reordered or verdict.torn or unreadable)
    result = {"schema": 1, "file": str(file), **asdict(verdict), "unreadable_frames": unreadable}
    print(json.dumps(result, indent=2) if as_json else _faults_text(result, unreadable))
    return ExitCode.CHECK if faulty else ExitCode.DONE


def measured_text(result: dict[str, Any]) -> str:
    """A result for people."""
    delay, error = result["delay_ms"], result["error_ms"]
    lines = [
        _faults_text(result, result["unreadable_looks"]),
        f"delay to the screen: p50 {delay['p50']} ms, p99 {delay['p99']}, max {delay['max']} (n {delay['n']})",
        f"error of each: at most ± {error['p99']} ms for 99 %",
    ]
    if "against_stamps" in result:
        later = result["against_stamps"]["witness_after_stamp_ms"]
        lines.append(f"after our own stamp: p50 {later['p50']} ms, p99 {later['p99']}, max {later['max']}")
    return "\n".join(lines)


def _faults_text(result: dict[str, Any], unreadable: int) -> str:
    named = [
        f"{kind.replace('_', ' ')} {len(result[kind])}"
        + (f" ({', '.join(map(str, result[kind][:8]))})" if result[kind] else "")
        for kind in ("lost", "repeated", "reordered", "torn", "not_sent")
    ]
    return f"sent {result['sent']}, seen {result['seen']}, {', '.join(named)}, unreadable {unreadable}"


def _write(path: Path, result: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(result))
    except OSError as error:
        raise SinkError(f"out: {path}; cannot be written ({error.strerror})") from error


def _rate(source: str, text: str) -> Fraction:
    """The rate asked for, else the source's."""
    if text:
        try:
            fps = Fraction(text)
        except (ValueError, ZeroDivisionError):
            fps = Fraction(0)
        if not 0 < fps <= 1000:
            raise ConfigError(f"--rate: {text!r}; expected a number up to 1000, or 30000/1001")
        return fps
    return _info(source)[1]


def _size(source: str) -> tuple[int, int]:
    return _info(source)[0]


def _info(source: str) -> tuple[tuple[int, int], Fraction]:
    from ..source import open_source

    with open_source(source) as opened:
        height, width = opened.info.size_hw
        return (width, height), opened.info.fps or Fraction(25)


def _wh(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size: {text!r}; expected WIDTHxHEIGHT")
    from ..witness.witness_code import unit_px

    try:
        unit_px(int(width), int(height))
    except ValueError as error:
        raise ConfigError(f"--{error}") from error
    return int(width), int(height)
