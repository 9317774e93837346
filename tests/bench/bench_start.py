"""Start-up: from the command to its first picture and its first mask, how it ends, and what the processes import.

    python tests/bench/bench_start.py [--json FILE] [--quick]

A phantom clip is played with fuzzy c-means; the JSON-lines sink says when each picture was presented, on the clock the
command was timed with. By default a replay holds its first picture back until infer is ready; ``ready_wait_s=0`` shows
how soon there can be a picture. The files are in the page cache, as in a second start. Imports are read off ``python
-X importtime``, whose own cost is in them (about a third): they say what weighs most, not how long it takes.
"""

import re
import subprocess
import sys
from collections import Counter
from typing import Any

from clips import phantom_clip
from results import Result, Table, bench_parser, conclude, median, this_machine
from runs import ENDOSTREAM, Run, endostream, run

WORKER = "import endostream.pipeline.worker, endostream.configs.schema"
IMPORTS = {
    "endostream --help": "import endostream.pipeline.cli",
    "supervisor": "import endostream.pipeline.cli, endostream.pipeline.app",
    "capture": f"{WORKER}, endostream.pipeline.capture, endostream.replay.avi",
    "preprocess": f"{WORKER}, endostream.pipeline.annotate",
    "infer": f"{WORKER}, endostream.pipeline.annotate, endostream.models.fcm",
    "overlay": f"{WORKER}, endostream.pipeline.present, endostream.pipeline.null_sink",
    "record": f"{WORKER}, endostream.pipeline.record, endostream.pipeline.video_sink",
}
"""What each process imports by the time it is ready."""
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")
_HEAVIEST = 6


def start_times(done: Run) -> dict[str, float]:
    """Seconds from the command's start to its first picture and first mask, and from its last picture to its end."""
    masked = [frame for frame in done.frames if frame["mask_crc32"] is not None]
    ended_ns = done.started_ns + done.wall_s * 1e9
    return {
        "first_picture_s": (done.frames[0]["present_ns"] - done.started_ns) / 1e9,
        "first_mask_s": (masked[0]["present_ns"] - done.started_ns) / 1e9,
        "end_s": (ended_ns - done.frames[-1]["present_ns"]) / 1e9,
        "cpu_s": done.cpu_s,
    }


def measure_commands(repeats: int) -> dict[str, Any]:
    """All commands, alternating; medians."""
    clip = str(phantom_clip(720, 576, 25, 4))
    ways = {
        "replay, realtime": (),
        "replay, realtime, ready_wait_s=0": ("--set", "replay.ready_wait_s=0"),
        "replay, fastest": ("--speed", "fastest"),
    }
    times: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    plain: dict[str, list[float]] = {"endostream --help": [], "endostream --version": []}
    for repeat in range(repeats):
        print(f"commands: {repeat + 1} of {repeats}", file=sys.stderr)
        for way, options in ways.items():
            times[way].append(
                start_times(endostream("replay", clip, "--segmenter", "fcm", *options, jsonl=True))
            )
        for command, series in plain.items():
            series.append(run([ENDOSTREAM, command.split()[1]]).wall_s)
    return {
        "replay": {
            way: {key: median([one[key] for one in series]) for key in series[0]}
            for way, series in times.items()
        },
        "plain_s": {command: median(series) for command, series in plain.items()},
    }


def measure_imports(repeats: int) -> dict[str, Any]:
    """For each process the quickest of some starts: milliseconds, by package."""
    return {
        process: min((import_times(code) for _ in range(repeats)), key=lambda one: float(one["all_ms"]))
        for process, code in IMPORTS.items()
    }


def import_times(code: str) -> dict[str, Any]:
    """Milliseconds that the imports in ``code`` take, by top-level package; ours by module."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    by_package: Counter[str] = Counter()
    for microseconds, module in _LINE.findall(lines):
        ours = module.startswith("endostream.")
        by_package[module if ours else module.partition(".")[0]] += int(microseconds)
    return {
        "all_ms": by_package.total() / 1e3,
        "heaviest_ms": {package: us / 1e3 for package, us in by_package.most_common(_HEAVIEST)},
    }


def result_of(commands: dict[str, Any], imports: dict[str, Any], repeats: int) -> Result:
    """Tables; nothing is promised of start-up."""
    keys = ("first_picture_s", "first_mask_s", "end_s", "cpu_s")
    rows = [[way, *(f"{times[key]:.2f}" for key in keys)] for way, times in commands["replay"].items()]
    columns = ["", "to the first picture", "to the first mask", "last picture to end", "CPU of the whole run"]
    replay = Table(f"Replay of 4 s, seconds, median of {repeats}", columns, rows)
    plain_rows = [[name, f"{seconds:.2f}"] for name, seconds in commands["plain_s"].items()]
    plain = Table(
        f"Commands that play nothing, seconds, median of {repeats}", ["", "whole command"], plain_rows
    )
    import_rows = [
        [
            process,
            f"{one['all_ms']:.0f}",
            ", ".join(f"{name} {ms:.0f}" for name, ms in one["heaviest_ms"].items()),
        ]
        for process, one in imports.items()
    ]
    heavy = Table("Imports, ms, least of several", ["", "all", "heaviest"], import_rows)
    return Result("start", {**commands, "imports": imports}, [replay, plain, heavy])


def main() -> int:
    """Measure and print."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    repeats = 2 if arguments.quick else 9
    result = result_of(measure_commands(repeats), measure_imports(1 if arguments.quick else 5), repeats)
    return conclude(result, arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
