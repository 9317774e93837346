"""To the screen: endostream's window beside ffplay, mpv and GStreamer, each measured from outside by the witness.

    python tests/bench/bench_window.py [--json FILE] [--quick]

Each program gets the same pictures, with a code in each, through a named pipe in YUV4MPEG2, and draws them into a
window of an X server without a screen (Xvfb); the witness reads the codes from there. Programs take turns. endostream
runs its network beside the window; the others only show. What is not installed is left out and said. The witness's own
error is measured first, and stated.
"""

import shutil
import sys
from fractions import Fraction
from typing import Any

from endostream.pipeline.witness.witness_measure import (
    Measurement,
    WitnessError,
    calibrate,
    measure,
    x_display,
)
from results import Promise, Result, Table, bench_parser, conclude, percentiles, this_machine
from runs import ENDOSTREAM

SIZE_WH = (720, 576)
BASE = "phantom:720x576@25"
OURS = "endostream, resunet-small"
_SHOWN = "y4mdec ! videoconvert ! ximagesink sync=false"
PROGRAMS = {
    OURS: f"{ENDOSTREAM} live 'pipe:cat {{input}}' --sink window --quiet",
    "ffplay": "ffplay -loglevel error -fflags nobuffer -flags low_delay -framedrop -autoexit -f yuv4mpegpipe {input}",
    "mpv": "mpv --profile=low-latency --untimed --no-audio --no-terminal --vo=x11 {input}",
    "GStreamer, filesrc": f"gst-launch-1.0 -q filesrc location={{input}} ! {_SHOWN}",
    "GStreamer, fdsrc": f"sh -c 'exec gst-launch-1.0 -q fdsrc ! {_SHOWN} < {{input}}'",
}
_BINARIES = {
    "ffplay": "ffplay",
    "mpv": "mpv",
    "GStreamer, filesrc": "gst-launch-1.0",
    "GStreamer, fdsrc": "gst-launch-1.0",
}
_SETTLED_FRAMES = 25
"""The first second is left out for all: programs start, windows are placed."""


def measure_programs(rounds: int, frames: int) -> dict[str, Any]:
    """Delays in ms and counts by program; programs take turns."""
    found: dict[str, Any] = {}
    for turn in range(rounds):
        for name, command in PROGRAMS.items():
            binary = _BINARIES.get(name)
            if binary is not None and shutil.which(binary) is None:
                found[name] = {"missing": binary}
                continue
            print(f"{name}: {turn + 1} of {rounds}", file=sys.stderr)
            with x_display(None) as display:
                asked = Measurement(command, BASE, SIZE_WH, Fraction(25), frames, display=display)
                try:
                    done = measure(asked)
                except WitnessError as error:
                    found.setdefault(name, {"problems": []}).setdefault("problems", []).append(str(error))
                    continue
            one = found.setdefault(
                name, {"delay_ms": [], "error_ms": [], "sent": 0, "lost": 0, "repeated": 0}
            )
            settled = [each for each in done.seen if each.number >= _SETTLED_FRAMES and each.other is None]
            first = {each.number: each for each in reversed(settled)}
            one["delay_ms"] += [each.delay_ns / 1e6 for each in first.values()]
            one["error_ms"] += [each.error_ns / 1e6 for each in first.values()]
            for kind in ("lost", "repeated"):
                one[kind] += sum(number >= _SETTLED_FRAMES for number in getattr(done.verdict, kind))
            sent = [slot for slot in done.slots if slot.number is not None and slot.number >= _SETTLED_FRAMES]
            one["sent"] += len(sent)
    return found


def result_of(found: dict[str, Any], own: dict[str, Any]) -> Result:
    """Tables, and the promise that we are no slower to the screen than a plain player."""
    rows = []
    for name, one in found.items():
        if "delay_ms" not in one:
            why = f"not installed: {one['missing']}" if "missing" in one else "; ".join(one["problems"])[:80]
            rows.append([name, why, *[""] * 6])
            continue
        delay, error = percentiles(one["delay_ms"]), percentiles(one["error_ms"])
        cells = [f"{delay[key]:.1f}" for key in ("p50", "p90", "p99", "max")]
        rows.append(
            [name, *cells, str(one["lost"]), f"{one['repeated']} of {one['sent']}", f"± {error['p99']:.1f}"]
        )
    columns = ["", "p50", "p90", "p99", "max", "lost", "repeated", "error, p99"]
    table = Table(
        "From the pipe to the X server's frame buffer, 720 × 576 at 25 frames a second, ms", columns, rows
    )
    error, half = own["error_ms"], own["half_width_ms"]
    calibration = Table(
        "The witness itself, ms",
        ["", "p50", "p99", "max"],
        [
            ["what it says less the truth", *(f"{error[key]:.2f}" for key in ("p50", "p99", "max"))],
            ["half the time between two looks", *(f"{half[key]:.2f}" for key in ("p50", "p99", "max"))],
        ],
    )
    return Result("window", {"programs": found, "calibration": own}, [table, calibration], _promises(found))


def _promises(found: dict[str, Any]) -> list[Promise]:
    others = {name: one for name, one in found.items() if name != OURS and one.get("delay_ms")}
    if not others or not found.get(OURS, {}).get("delay_ms"):
        return []
    ours = percentiles(found[OURS]["delay_ms"])
    best = min(others, key=lambda name: percentiles(others[name]["delay_ms"])["p99"])
    theirs = percentiles(others[best]["delay_ms"])
    text = f"p99 to the screen no later than the best player's ({ours['p99']:.1f} ms, {best} {theirs['p99']:.1f} ms)"
    return [Promise(text, ours["p99"] <= theirs["p99"], binding=False)]


def main() -> int:
    """Measure and print."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    own = calibrate(None, 60 if arguments.quick else 400, 1.0)
    rounds, frames = (1, 100) if arguments.quick else (3, 525)
    return conclude(result_of(measure_programs(rounds, frames), own), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
