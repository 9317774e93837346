"""What the network marks on real video: on a clip with a polyp, and on one without.

    python tests/bench/bench_marks.py [--json FILE] [--quick] [--picture docs/images/marks.png]

Both clips are of the data under ENDOSTREAM_DATA and are played through the whole pipeline, every frame with its own
mask. There is no annotation frame by frame: of the polyp clip we know that the polyp is in view from about frame 30 to
170, of the other that it shows none at all. So what is counted is frames with a mark, not pixels. Times play no part:
a loaded machine gives the same result.
"""

import sys
from pathlib import Path
from typing import Any

from clips import NORMAL_CLIP, POLYP_CLIP, real_clip
from results import Result, Table, bench_parser, conclude, this_machine
from runs import endostream

SEGMENTERS = ("resunet-small", "fcm")
IN_VIEW = range(30, 171)
LARGE_SHARE = 0.01
"""Of the picture: what others call a false mark at all."""
Shares = list[float]


def mark_shares(clip: Path, segmenter: str, seconds: float | None) -> Shares:
    """Share of the picture that is marked, frame by frame."""
    some = ("--duration", str(seconds)) if seconds else ()
    done = endostream("replay", str(clip), "--speed", "fastest", "--segmenter", segmenter, *some, jsonl=True)
    height, width = done.report["sources"][0]["size_hw"]
    return [frame["area_px"] / (height * width) for frame in done.frames]


def counted(shares: Shares, numbers: range, least: float = 0.0) -> tuple[int, int]:
    """Frames among ``numbers`` that are marked on more than ``least``, and how many there are."""
    there = [shares[number] for number in numbers if number < len(shares)]
    return sum(share > least for share in there), len(there)


def result_of(found: dict[str, dict[str, Shares]]) -> Result:
    """One row a segmenter."""
    rows = []
    for segmenter, clips in found.items():
        polyp, normal = clips["polyp"], clips["normal"]
        outside = [
            counted(polyp, numbers) for numbers in (range(IN_VIEW.start), range(IN_VIEW.stop, len(polyp)))
        ]
        cells = [
            counted(polyp, IN_VIEW),
            (sum(marked for marked, _ in outside), sum(frames for _, frames in outside)),
            counted(normal, range(len(normal))),
            counted(normal, range(len(normal)), LARGE_SHARE),
        ]
        rows.append(
            [segmenter, *(f"{marked} of {frames} ({_percent(marked, frames)})" for marked, frames in cells)]
        )
    columns = [
        "",
        "polyp in view",
        "before and after",
        "normal clip",
        "normal clip, more than 1 % of the picture",
    ]
    return Result("marks", {"share_by_frame": found}, [Table("Frames with a mark", columns, rows)])


def _percent(marked: int, frames: int) -> str:
    return f"{100 * marked / frames:.0f} %" if frames else "none"


def draw(found: dict[str, Shares], path: Path) -> None:
    """How much is marked over both clips, as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(9, 4), layout="constrained", sharey=True)
    titles = {"polyp": "clip with a polyp (shaded: in view)", "normal": "normal colon: every mark is false"}
    for axis, (clip, title) in zip(axes, titles.items(), strict=True):
        shares = [100 * share for share in found[clip]]
        axis.bar(range(len(shares)), shares, width=1.0, color="#0a7d5a" if clip == "polyp" else "#b3392f")
        axis.set(title=title, ylabel="marked, %", xlim=(0, len(shares)), ylim=(0, 20))
    axes[0].axvspan(IN_VIEW.start, IN_VIEW.stop, color="#0a7d5a", alpha=0.12)
    axes[1].set_xlabel("frame")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--picture", metavar="FILE", help="draw the first segmenter's marks over time")
    arguments = parser.parse_args()
    machine = this_machine()
    clips = {"polyp": real_clip(POLYP_CLIP), "normal": real_clip(NORMAL_CLIP)}
    if None in clips.values():
        print("bench_marks: no real clips; set ENDOSTREAM_DATA", file=sys.stderr)
        return 0
    seconds = 2.0 if arguments.quick else None
    found: dict[str, Any] = {
        segmenter: {name: mark_shares(clip, segmenter, seconds) for name, clip in clips.items() if clip}
        for segmenter in SEGMENTERS
    }
    if arguments.picture:
        draw(found[SEGMENTERS[0]], Path(arguments.picture))
    return conclude(result_of(found), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
