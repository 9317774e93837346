"""Start-up: from the command to its first picture and its first mask, how it ends, and what the processes import.

    python tests/bench/bench_start.py [--json FILE] [--quick]

A phantom clip is played; the JSON-lines sink says when each picture was presented, on the clock the command was timed
with. The runs are held to two cores. By default a replay holds its first picture back until infer is ready, for a
second at most; ``ready_wait_s=0`` shows how soon there can be a picture. The files are in the page cache, as in a
second start; "cold" is after the page cache was emptied, where we may do that (as root). Imports are read off
``python -X importtime``, whose own cost is in them (about a third): they say what weighs most, not how long it takes.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clips import phantom_clip
from results import Promise, Result, Table, bench_parser, conclude, median, this_machine
from runs import ENDOSTREAM, Run, endostream, hold_to_cores, run

WORKER = "import endostream.pipeline.worker, endostream.configs.schema"
IMPORTS = {
    "endostream --help": "import endostream.pipeline.cli",
    "supervisor": "import endostream.pipeline.cli, endostream.pipeline.app",
    "capture": f"{WORKER}, endostream.pipeline.capture, endostream.replay.avi",
    "preprocess": f"{WORKER}, endostream.pipeline.annotate",
    "infer": f"{WORKER}, endostream.pipeline.annotate, endostream.models.fcm",
    "overlay": f"{WORKER}, endostream.pipeline.present, endostream.pipeline.sinks.null_sink",
    "record": f"{WORKER}, endostream.pipeline.record, endostream.pipeline.sinks.video_sink",
}
"""What each process imports by the time it is ready."""
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")
_HEAVIEST = 6
FIRST_PICTURE_S, FIRST_MASK_S = 1.5, 4.0
"""What issue 7 asks for, of the slowest start."""
_NETWORK = ("--segmenter", "resunet-small")
WAYS: dict[str, tuple[str, ...]] = {
    "resunet-small": _NETWORK,
    "resunet-small, cold": _NETWORK,
    "resunet-small, ready_wait_s=0": (*_NETWORK, "--set", "replay.ready_wait_s=0"),
    "resunet-small, 1920 × 1080": _NETWORK,
    "resunet-small, --speed fastest": (*_NETWORK, "--speed", "fastest"),
    "fcm": ("--segmenter", "fcm"),
}
_COLD = Path("/proc/sys/vm/drop_caches")


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
    """All commands, alternating: every start's times."""
    times: dict[str, list[dict[str, float]]] = {}
    plain: dict[str, list[float]] = {"endostream --help": [], "endostream --version": []}
    for repeat in range(repeats):
        print(f"commands: {repeat + 1} of {repeats}", file=sys.stderr)
        for way, options in WAYS.items():
            clip = phantom_clip(1920, 1080, 30, 4) if "1080" in way else phantom_clip(720, 576, 25, 4)
            if "cold" in way and not empty_page_cache():
                continue
            times.setdefault(way, []).append(
                start_times(endostream("replay", str(clip), *options, jsonl=True))
            )
        for command, series in plain.items():
            series.append(run([ENDOSTREAM, command.split()[1]]).wall_s)
    return {"replay": times, "plain_s": {command: median(series) for command, series in plain.items()}}


def empty_page_cache() -> bool:
    """Have the next start read everything from the disk; whether we may."""
    with contextlib.suppress(OSError):
        os.sync()
        _COLD.write_text("3", encoding="ascii")
        return True
    return False


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
    """Tables and promises."""
    keys = ("first_picture_s", "first_mask_s", "end_s", "cpu_s")
    rows = []
    for way, starts in commands["replay"].items():
        series = {key: [one[key] for one in starts] for key in keys}
        spans = (f"{median(series[key]):.2f}, {max(series[key]):.2f}" for key in keys[:2])
        rows.append([way, *spans, *(f"{median(series[key]):.2f}" for key in keys[2:])])
    columns = [
        "",
        "to the first picture: median, slowest",
        "to the first mask",
        "last picture to end",
        "CPU of the whole run",
    ]
    replay = Table(f"Replay of 4 s in real time, seconds, {repeats} starts each", columns, rows)
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
    promises = list(promises_of(commands["replay"]))
    return Result("start", {**commands, "imports": imports}, [replay, plain, heavy], promises)


def promises_of(replay: dict[str, list[dict[str, float]]]) -> Iterator[Promise]:
    """Of every start in real time, cold ones too."""
    for way, starts in replay.items():
        if "fastest" in way:
            continue
        for what, key, limit_s in (
            ("picture", "first_picture_s", FIRST_PICTURE_S),
            ("mask", "first_mask_s", FIRST_MASK_S),
        ):
            slowest_s = max(one[key] for one in starts)
            words = f"{way}: first {what} within {limit_s:g} s in every start ({slowest_s:.2f} s)"
            yield Promise(words, slowest_s <= limit_s)


def main() -> int:
    """Measure and print."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    hold_to_cores()
    repeats = 2 if arguments.quick else 9
    result = result_of(measure_commands(repeats), measure_imports(1 if arguments.quick else 5), repeats)
    return conclude(result, arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
