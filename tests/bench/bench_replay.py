"""The fastest replay with fuzzy c-means, written as a video, against a plain single-process loop that does the same.

    python tests/bench/bench_replay.py [--json FILE] [--quick]

Both play the same file and draw the same marks: OpenCV or PyAV decodes (FFmpeg either way), field of view, resize,
fuzzy c-means, marks, HUD, H.264 with the pipeline's own encoder settings (libx264 ultrafast, zerolatency, crf 20, with
2 threads, the default, and with 1). The loop is ``plain_loop.py``, OpenCV's own threads left as they come; the last row
is that loop with cv2.VideoWriter, as most would write it, whose MPEG-4 is another codec. Wall time of whole commands,
alternating runs, medians; and the rate without start-up and shut-down: in the pipeline from the first frame captured to
the last one presented and the video sink's longest delay, in the loop from the first read to the finished file. Short
clips show the start-up, long ones the rate. It says nothing of latency: no frame is dropped and none is due.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from clips import phantom_clip, real_clip
from results import Promise, Result, Table, bench_parser, conclude, median, this_machine
from runs import endostream, run, scratch

PIPELINE, LOOP, LOOP_CV2 = "endostream", "plain loop", "plain loop, cv2.VideoWriter"
THREADS = (2, 1)
"""Of the encoder: the pipeline's default, and one, where the loop has nothing left that runs side by side."""
PLAIN_LOOP = Path(__file__).with_name("plain_loop.py")


@dataclass(slots=True)
class Times:
    """One way's runs of one clip, in seconds: the command, its CPU time, and the rate once it is under way."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    fps: list[float] = field(default_factory=list)


def play_pipeline(clip: Path, folder: Path, times: Times, frames: int, threads: int) -> None:
    """Once through endostream; RuntimeError if a frame is missing."""
    out = folder / "pipeline.mp4"
    options = ["--segmenter", "fcm", "--speed", "fastest", "--sink", f"video:{out}"]
    options += ["--set", f"record.threads={threads}"]
    done = endostream("replay", str(clip), *options)
    check_frames(out, frames)
    under_way_s = (
        done.report["duration_s"] + done.report["sinks"][f"video:{out}"]["write_delay_ms"]["max"] / 1e3
    )
    times.wall_s.append(done.wall_s)
    times.cpu_s.append(done.cpu_s)
    times.fps.append(frames / under_way_s)


def play_loop(
    clip: Path, folder: Path, times: Times, frames: int, threads: int, writer: str = "pyav"
) -> None:
    """Once through the plain loop; RuntimeError if a frame is missing."""
    out = folder / f"loop-{writer}.mp4"
    done = run([sys.executable, PLAIN_LOOP, clip, out, "--writer", writer, "--threads", str(threads)])
    check_frames(out, frames)
    times.wall_s.append(done.wall_s)
    times.cpu_s.append(done.cpu_s)
    times.fps.append(frames / json.loads(done.output)["loop_s"])


def count_frames(path: Path) -> int:
    """Frames of a video, by decoding it."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def check_frames(path: Path, expected: int) -> None:
    """RuntimeError unless the file holds as many frames."""
    found = count_frames(path)
    if found != expected:
        raise RuntimeError(f"{path.name}: {found} frames; expected {expected}")


def measure(clips: dict[str, Path], repeats: int) -> dict[str, Any]:
    """All clips, all ways, alternating."""
    numbers: dict[str, Any] = {}
    with scratch() as folder:
        for name, clip in clips.items():
            frames = count_frames(clip)
            ways = {
                way: Times()
                for way in [*(f"{one}{label(n)}" for n in THREADS for one in (PIPELINE, LOOP)), LOOP_CV2]
            }
            for repeat in range(repeats):
                print(f"{name}: {repeat + 1} of {repeats}", file=sys.stderr)
                for threads in THREADS:
                    play_pipeline(clip, folder, ways[f"{PIPELINE}{label(threads)}"], frames, threads)
                    play_loop(clip, folder, ways[f"{LOOP}{label(threads)}"], frames, threads)
                play_loop(clip, folder, ways[LOOP_CV2], frames, THREADS[0], "cv2")
            numbers[name] = {"frames": frames} | {way: row_of(times) for way, times in ways.items()}
    return numbers


def label(threads: int) -> str:
    """What a row's name ends in."""
    return f", {threads} encoder thread{'s' if threads > 1 else ''}"


def row_of(times: Times) -> dict[str, Any]:
    """Medians, and all the runs they come from."""
    return {
        "wall_s": median(times.wall_s),
        "cpu_s": median(times.cpu_s),
        "fps": median(times.fps),
        "wall_s_runs": times.wall_s,
        "fps_runs": times.fps,
    }


def result_of(numbers: dict[str, Any], repeats: int) -> Result:
    """Tables and promises."""
    tables, promises = [], []
    for name, clip in numbers.items():
        rows = []
        for way, row in clip.items():
            if way == "frames":
                continue
            threads = next((n for n in THREADS if way.endswith(label(n))), THREADS[0])
            loop = clip[f"{LOOP}{label(threads)}"]
            spread = f"{min(row['wall_s_runs']):.2f} to {max(row['wall_s_runs']):.2f}"
            cells = (f"{row['wall_s']:.2f}", spread, f"{row['cpu_s']:.2f}", f"{row['fps']:.0f}")
            rows.append(
                [way, *cells, f"{loop['wall_s'] / row['wall_s']:.2f} ×", f"{row['fps'] / loop['fps']:.2f} ×"]
            )
        columns = [
            "",
            "whole command, s",
            "runs, s",
            "CPU, s",
            "fps under way",
            "to the loop: command",
            "under way",
        ]
        tables.append(Table(f"{name}, {clip['frames']} frames, median of {repeats}", columns, rows))
        for threads in THREADS:
            ours, theirs = clip[f"{PIPELINE}{label(threads)}"], clip[f"{LOOP}{label(threads)}"]
            faster, rate = theirs["wall_s"] / ours["wall_s"], ours["fps"] / theirs["fps"]
            text = f"{name}{label(threads)}: faster than the plain loop, start-up included "
            promises.append(
                Promise(f"{text}({faster:.2f} times; {rate:.2f} under way)", faster > 1, binding=False)
            )
    return Result("replay", numbers, tables, promises)


def main() -> int:
    """Measure and print; where the pipeline is not faster, the tables say by how much and the docs why."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    seconds = (4,) if arguments.quick else (10, 60)
    clips = {f"phantom 720 × 576, {length} s": phantom_clip(720, 576, 25, length) for length in seconds}
    if (real := real_clip()) is not None:
        clips["polyp clip 560 × 480, 7 s"] = real
    else:
        print("no real clip (ENDOSTREAM_DATA): the phantom alone is played", file=sys.stderr)
    repeats = 1 if arguments.quick else 5
    return conclude(result_of(measure(clips, repeats), repeats), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
