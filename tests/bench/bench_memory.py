"""Memory of each process, and whether it grows.

    python tests/bench/bench_memory.py [--json FILE] [--quick]

A phantom clip is played over and over, fastest, every frame, with fuzzy c-means and a video sink; every half second the
memory of each process is read. PSS counts a page shared by n processes as 1/n of it in each, so the column adds up; RSS
counts it whole in each: pictures in rings are shared by all that have looked at them. USS is what one process alone
has; its growth is the slope of a straight line through the last two thirds of the run, for 1,000 frames. Programs of
the same installation that run beside it move PSS a little. It says nothing of a GPU's memory.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from clips import phantom_clip
from results import Promise, Result, Table, bench_parser, conclude, median, this_machine
from runs import Cost, CostWatch, endostream, scratch

CASES = ((720, 576, 25), (1920, 1080, 30))
STAGES = ("capture", "preprocess", "infer", "overlay", "record", "supervisor")
CLIP_S = 4
FRAMES_FOR_GROWTH = 3000
"""In fewer, allocators are still filling up, and a slope says nothing."""
GROWTH_WANTED_MIB = 1.0
"""For 1,000 frames of all processes together: less is noise of allocators; a leaked 1080p picture is 6 MiB."""


def measure(frames_wanted: int) -> dict[str, Any]:
    """All sizes."""
    numbers: dict[str, Any] = {}
    for width, height, fps in CASES:
        name = f"{width} × {height}"
        clip = phantom_clip(width, height, fps, CLIP_S)
        loops = max(2, frames_wanted // (CLIP_S * fps))
        print(f"{name}: {loops} times {CLIP_S} s", file=sys.stderr)
        watch = CostWatch(memory=True)
        with scratch() as folder:
            options = ("--segmenter", "fcm", "--speed", "fastest", "--loop", str(loops))
            done = endostream("replay", str(clip), *options, "--sink", f"video:{folder}/o.mp4", watch=watch)
        frames = done.report["frames"]["presented"]
        duration_s = done.report["duration_s"]
        numbers[name] = {
            "frames": frames,
            "duration_s": duration_s,
            "processes": {
                stage: memory_of(watch.costs[stage], frames / duration_s)
                for stage in STAGES
                if len(watch.costs.get(stage, ())) > 2
            },
        }
    return numbers


def memory_of(costs: Sequence[Cost], fps: float) -> dict[str, float]:
    """Memory in the settled part of the run (medians), at the most, and growth; ``fps`` turns seconds into frames."""
    begun_s, ended_s = costs[0].at_s, costs[-1].at_s
    # The last sample may be of a process that has begun to end.
    settled = [cost for cost in costs[:-1] if cost.at_s - begun_s > (ended_s - begun_s) / 3] or costs
    slope = 0.0
    if len(settled) > 2:
        slope = float(np.polyfit([cost.at_s for cost in settled], [cost.uss_mib for cost in settled], 1)[0])
    return {
        "uss_mib": median([cost.uss_mib for cost in settled]),
        "pss_mib": median([cost.pss_mib for cost in settled]),
        "most_rss_mib": max(cost.rss_mib for cost in costs),
        "growth_mib_per_1000_frames": slope / fps * 1000,
    }


def result_of(numbers: dict[str, Any]) -> Result:
    """Tables and promises."""
    tables, promises = [], []
    for name, case in numbers.items():
        keys = ("uss_mib", "pss_mib", "most_rss_mib", "growth_mib_per_1000_frames")
        rows, sums = [], dict.fromkeys(keys, 0.0)
        for stage, memory in case["processes"].items():
            rows.append([stage, *(f"{memory[key]:.1f}" for key in keys[:3]), f"{memory[keys[3]]:+.2f}"])
            sums = {key: sums[key] + memory[key] for key in keys}
        rows.append(["all", *(f"{sums[key]:.1f}" for key in keys[:2]), "", f"{sums[keys[3]]:+.2f}"])
        columns = ["", "USS", "PSS", "most RSS", "growth of USS for 1,000 frames"]
        tables.append(Table(f"{name}, {case['frames']} frames, MiB", columns, rows))
        growth = sums["growth_mib_per_1000_frames"]
        text = f"{name}: grows by less than {GROWTH_WANTED_MIB:g} MiB in 1,000 frames ({growth:+.2f} MiB)"
        if case["frames"] >= FRAMES_FOR_GROWTH:
            promises.append(Promise(text, growth < GROWTH_WANTED_MIB))
    return Result("memory", numbers, tables, promises)


def main() -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    return conclude(result_of(measure(800 if arguments.quick else 6000)), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
