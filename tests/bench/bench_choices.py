"""What each choice is worth: the same run with one of them undone, everything else as it ships.

    python tests/bench/bench_choices.py [--json FILE] [--quick]

The rendered phantom from memory, null sink, ``resunet-small`` beside it on the same two cores, the first frames
included; 720 × 576 at 25, 1280 × 1024 at 30 and 1920 × 1080 at 60 frames a second. The variants take turns, so that a
slow minute of the machine falls on all. "beside load": two processes that only count, in the ordinary class, one for
each core. What has no setting (a copy, a conversion) is in the page's words, with figures of when it was changed.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_profile import CASES, profile
from results import OUT, Result, Table, bench_parser, conclude, percentiles, this_machine
from runs import CORES, hold_to_cores

_NO_CLASS = ("--set", "supervisor.realtime=false")
VARIANTS: dict[str, tuple[tuple[str, ...], bool]] = {
    "as it ships": ((), False),
    "stages as threads of one process": (("--launcher", "threads"), False),
    "no real-time class": (_NO_CLASS, False),
    "FP32 instead of INT8": (("--set", "infer.options.precision=fp32"), False),
    "no HUD": (("--set", "overlay.hud=false"), False),
    "beside load": ((), True),
    "beside load, no real-time class": (_NO_CLASS, True),
}
"""Options of ``endostream profile``, and whether the cores are loaded."""
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


def delays(cell: dict[str, Any]) -> dict[str, list[float]]:
    """Of a profile's cell: percentiles of both delays in ms, and how many frames were lost."""
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
        for case in CASES:
            name = "{} × {}, {} fps".format(*case)
            for variant, (options, loaded) in VARIANTS.items():
                print(f"{turn + 1} of {rounds}: {name}, {variant}", file=sys.stderr)
                with load(CORES if loaded else 0):
                    cell = profile(case, seconds, 1, out / "choices", *options)
                cases.setdefault(name, {}).setdefault(variant, []).append(delays(cell))
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
    hold_to_cores()
    rounds, seconds = (1, 2.0) if arguments.quick else (2, 8.0)
    out = OUT / "quick" if arguments.quick else OUT
    return conclude(result_of(measure(rounds, seconds, out)), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
