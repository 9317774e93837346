"""What each choice is worth: the same run with one of them undone, everything else as it ships.

    python tests/bench/bench_choices.py [--json FILE] [--quick]

The rendered phantom from memory, null sink, ``resunet-small`` beside it on the same two cores, the first frames
included; 720 × 576 at 25, 1280 × 1024 at 30 and 1920 × 1080 at 60 frames a second. The variants take turns, so that a
slow minute of the machine falls on all. "beside load": two processes that only count, in the ordinary class, one for
each core. What has no setting (a copy, a conversion) is in the page's words, with figures of when it was changed.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_profile import CASES, CORES, SEGMENTER
from results import OUT, Result, Table, bench_parser, conclude, percentiles, this_machine
from runs import ENDOSTREAM

_PROCESSES, _NO_CLASS = "processes", ("--set", "supervisor.realtime=false")
VARIANTS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "as it ships": (_PROCESSES, (), False),
    "stages as threads of one process": ("threads", (), False),
    "no real-time class": (_PROCESSES, _NO_CLASS, False),
    "FP32 instead of INT8": (_PROCESSES, ("--set", "infer.options.precision=fp32"), False),
    "no HUD": (_PROCESSES, ("--set", "overlay.hud=false"), False),
    "beside load": (_PROCESSES, (), True),
    "beside load, no real-time class": (_PROCESSES, _NO_CLASS, True),
}
"""Launcher, options of the run, and whether the cores are loaded."""
_COUNT = [sys.executable, "-c", "while True: pass"]


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep that many cores busy meanwhile."""
    counting = [subprocess.Popen(_COUNT) for _ in range(processes)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def delays(
    case: tuple[int, int, int], launcher: str, options: Sequence[str], seconds: float, out: Path
) -> dict[str, list[float]]:
    """Every frame's delays in ms, and what the run lost; RuntimeError if it failed."""
    width, height, fps = case
    command = [ENDOSTREAM, "profile", "phantom:", "--segmenter", SEGMENTER, "--size", f"{width}x{height}"]
    command += ["--rate", str(fps), "--first-frames", "--duration", f"{seconds:g}", "--repeats", "1"]
    command += ["--launcher", launcher, *options, "--out", out, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"endostream profile ended with {done.returncode}\n{done.stderr[-2000:]}")
    cell = json.loads((out / "profile.json").read_text(encoding="utf-8"))["cells"][0]
    found = {
        name: [float(cell["series"][name][key]) for key in ("p50", "p99", "max")]
        for name in ("video_delay", "annotation_delay")
        if name in cell["series"]
    }
    return found | {"lost": [float(sum(cell["counted"]["dropped"].values()))]}


def measure(rounds: int, seconds: float, out: Path) -> dict[str, Any]:
    """By case and variant, a list of what each round gave."""
    cases: dict[str, dict[str, list[dict[str, list[float]]]]] = {}
    for turn in range(rounds):
        for width, height, fps in CASES:
            name = f"{width} × {height}, {fps} fps"
            for variant, (launcher, options, loaded) in VARIANTS.items():
                print(f"{turn + 1} of {rounds}: {name}, {variant}", file=sys.stderr)
                with load(CORES if loaded else 0):
                    one = delays((width, height, fps), launcher, options, seconds, out / "choices")
                cases.setdefault(name, {}).setdefault(variant, []).append(one)
    return {"rounds": rounds, "seconds": seconds, "cases": cases}


def result_of(numbers: dict[str, Any]) -> Result:
    """One table for each size."""
    title = f"{numbers['rounds']} × {numbers['seconds']:g} s, median of the rounds"
    columns = ["", "video p50", "p99", "max", "annotation p50", "p99", "lost frames"]
    tables = [
        Table(f"{name}, ms, {title}", columns, [[variant, *row(rounds)] for variant, rounds in found.items()])
        for name, found in numbers["cases"].items()
    ]
    return Result("choices", numbers, tables)


def row(rounds: list[dict[str, list[float]]]) -> list[str]:
    """Medians over the rounds; "none" where a round had no such value."""
    cells = []
    for series, count in (("video_delay", 3), ("annotation_delay", 2)):
        for place in range(count):
            values = [one[series][place] for one in rounds if series in one]
            cells.append(f"{percentiles(values)['p50']:.2f}" if len(values) == len(rounds) else "none")
    return [*cells, str(int(sum(one["lost"][0] for one in rounds)))]


def main() -> int:
    """Measure and print."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    rounds, seconds = (1, 2.0) if arguments.quick else (2, 8.0)
    out = OUT / "quick" if arguments.quick else OUT
    return conclude(result_of(measure(rounds, seconds, out)), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
