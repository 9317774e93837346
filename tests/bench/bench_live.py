"""Live mode on two cores with fuzzy c-means: delays, frames shown, and what each process costs.

    python tests/bench/bench_live.py [--json FILE] [--quick]

The phantom at 720 × 576, 25 fps and 1920 × 1080, 30 fps, each twice: rendered ahead to a file (an MPEG-4 AVI, so that
capture decodes), and rendered while it plays, which is the dearest source there is. The null sink presents. The run is
held to two cores, however many the machine has. CPU is what each process used in the middle of the run, start-up and
end left out, in cores (seconds of CPU for a second of video). A picture of a file or of the phantom is ready when it is
due: ``video_delay`` is from its release to the finished picture, and how late the release was is ``release_lateness``.
A source that is too slow loses no frame but time, so every frame has to be shown, and the run to last as long as the
video. It says nothing of a camera's or a screen's delay.
"""

import sys
from collections.abc import Iterator
from typing import Any

from clips import phantom_clip
from results import Promise, Result, Table, bench_parser, conclude, this_machine
from runs import CORES, Cost, CostWatch, cpu_share, endostream, hold_to_cores

CASES = ((720, 576, 25), (1920, 1080, 30))
STAGES = ("capture", "preprocess", "infer", "overlay", "supervisor")
SETTLED_S, TAIL_S = 1.0, 0.5
"""Left out after the first sample of every stage, and before the last."""
LATE_ALLOWED = 0.03


def play(width: int, height: int, fps: int, seconds: float, from_file: bool) -> dict[str, Any]:
    """One run in real time; its report's figures and the cost of each process."""
    settings = {"width": width, "height": height, "fps": fps, "duration_s": seconds}
    source, more = "phantom:", [f"--set=phantom.{name}={value}" for name, value in settings.items()]
    if from_file:
        source, more = str(phantom_clip(width, height, fps, seconds)), []
    watch = CostWatch()
    done = endostream("replay", source, "--segmenter", "fcm", "--sink", "null", *more, watch=watch)
    report = done.report
    return {
        "frames": report["frames"],
        "expected_frames": round(seconds * fps),
        "expected_s": (round(seconds * fps) - 1) / fps,
        "duration_s": report["duration_s"],
        "video_delay_ms": report["video_delay_ms"],
        "annotation_delay_ms": report["annotation_delay_ms"],
        "release_lateness_ms": report["release_lateness_ms"],
        "longest_freeze_ms": report["longest_freeze_ms"],
        "masks_per_s": report["masks_per_s"],
        "mask_state": report["mask_state"],
        "cpu_cores": cpu_of(watch.costs),
    }


def cpu_of(costs: dict[str, list[Cost]]) -> dict[str, float]:
    """Cores used by each process in the middle of the run."""
    begin_s = max(series[0].at_s for series in costs.values()) + SETTLED_S
    end_s = min(series[-1].at_s for series in costs.values()) - TAIL_S
    return {stage: cpu_share(series, begin_s, end_s) for stage, series in costs.items()}


def measure(seconds: float) -> dict[str, Any]:
    """All cases."""
    numbers: dict[str, Any] = {"seconds": seconds, "cores": CORES}
    for width, height, fps in CASES:
        for from_file in (True, False):
            name = f"{width} × {height}, {fps} fps, {'file' if from_file else 'rendered'}"
            print(name, file=sys.stderr)
            numbers[name] = play(width, height, fps, seconds, from_file)
    return numbers


def result_of(numbers: dict[str, Any]) -> Result:
    """Tables and promises."""
    cases = {name: case for name, case in numbers.items() if isinstance(case, dict)}
    delays = Table(
        f"Delays, ms, {numbers['seconds']:g} s each",
        ["", "video p50", "p99", "max", "annotation p50", "p99", "max", "release late p99", "longest freeze"],
        [[name, *delay_cells(case)] for name, case in cases.items()],
    )
    frames = Table(
        "Frames",
        ["", "due", "shown", "dropped", "masks/s", "fresh", "held", "stale"],
        [[name, *frame_cells(case)] for name, case in cases.items()],
    )
    cpu = Table(
        f"CPU seconds for a second of video, on {CORES} cores",
        ["", *STAGES, "all", "idle"],
        [[name, *cpu_cells(case)] for name, case in cases.items()],
    )
    return Result("live", numbers, [delays, frames, cpu], list(promises(cases)))


def delay_cells(case: dict[str, Any]) -> list[str]:
    """One row of delays."""
    series = [
        (case["video_delay_ms"], ("p50", "p99", "max")),
        (case["annotation_delay_ms"], ("p50", "p99", "max")),
    ]
    series.append((case["release_lateness_ms"], ("p99",)))
    cells = [f"{one[key]:.2f}" if one else "none" for one, keys in series for key in keys]
    return [*cells, f"{case['longest_freeze_ms']:.0f}"]


def frame_cells(case: dict[str, Any]) -> list[str]:
    """One row of counts."""
    frames, states = case["frames"], case["mask_state"]
    dropped = sum(frames["dropped"].values())
    counts = (case["expected_frames"], frames["presented"], dropped, round(case["masks_per_s"]))
    return [str(count) for count in (*counts, states["fresh"], states["held"], states["stale"])]


def cpu_cells(case: dict[str, Any]) -> list[str]:
    """One row of costs."""
    cores = case["cpu_cores"]
    return [
        *(f"{cores.get(stage, 0):.2f}" for stage in STAGES),
        f"{used(case):.2f}",
        f"{CORES - used(case):.2f}",
    ]


def used(case: dict[str, Any]) -> float:
    """Cores all processes used together."""
    return float(sum(case["cpu_cores"].values()))


def promises(cases: dict[str, Any]) -> Iterator[Promise]:
    """Those of issue 3, and the delays of devices on the market."""
    for name, case in cases.items():
        shown, due = case["frames"]["presented"], case["expected_frames"]
        late = case["duration_s"] / case["expected_s"] - 1
        text = (
            f"{name}: every frame shown ({shown} of {due}), in no more than 3 % over its time ({late:+.1%})"
        )
        yield Promise(text, shown == due and late <= LATE_ALLOWED)
        if name.startswith("720"):
            idle = CORES - used(case)
            yield Promise(f"{name}: leaves more than half a core idle ({idle:.2f})", idle > 0.5)


def main() -> int:
    """Measure, print, and say by the exit code whether the promises hold."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    hold_to_cores()
    return conclude(result_of(measure(5 if arguments.quick else 30)), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
