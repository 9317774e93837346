"""Where the time of single frames went: the way of a picture, or of a mask, as segments that follow one another.

Separate from the chart that draws them. Every segment lies between two stamps of the frame log; together they are the
whole delay, so nothing is hidden between them.
"""

from typing import Any

from .svg import COLOURS, bars

Segment = tuple[str, float, float]
"""What, from when, until when; milliseconds since capture."""

VIDEO_STEPS = (
    ("waiting for overlay", "capture_ns", "overlay_received_ns"),
    ("copying, drawing, presenting", "overlay_received_ns", "overlay_done_ns"),
)
MASK_STEPS = (
    ("waiting for preprocess", "mask_capture_ns", "preprocess_received_ns"),
    ("preprocess", "preprocess_received_ns", "preprocess_done_ns"),
    ("waiting for infer", "preprocess_done_ns", "infer_received_ns"),
    ("infer", "infer_received_ns", "infer_done_ns"),
    ("waiting for overlay", "infer_done_ns", "mask_received_ns"),
    ("making the mask ready", "mask_received_ns", "mask_ready_ns"),
    ("waiting for the next picture", "mask_ready_ns", "overlay_received_ns"),
    ("copying, drawing, presenting", "overlay_received_ns", "overlay_done_ns"),
)
STEPS = {"video_delay": VIDEO_STEPS, "annotation_delay": MASK_STEPS}
_NAMES = tuple(dict.fromkeys(name for name, _, _ in (*MASK_STEPS, *VIDEO_STEPS)))
_SOFT = {name: "#cfd6de" for name in _NAMES if name.startswith("waiting")} | {
    "waiting for the next picture": "#e6d9b8"
}
COLOUR_OF = {name: _SOFT.get(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(_NAMES)}


def segments(row: dict[str, Any], delay: str) -> list[Segment]:
    """The way of a logged frame, or of the mask it was the first to carry; a step without both stamps is left out."""
    steps = STEPS[delay]
    zero = row.get(steps[0][1])
    if zero is None:
        return []
    return [
        (name, (row[begin] - zero) / 1e6, (row[end] - zero) / 1e6)
        for name, begin, end in steps
        if row.get(begin) is not None and row.get(end) is not None
    ]


def waterfall(rows: list[dict[str, Any]], delay: str) -> str:
    """The chart of some logged frames."""
    named = [(f"run {row['repeat']}, frame {row['seq']}", segments(row, delay)) for row in rows]
    return bars(named, COLOUR_OF, "ms since capture")
