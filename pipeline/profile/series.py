"""Which durations a frame log holds: their names, what each of them means, and how it comes out of the rows.

Separate so that a definition stands in one place, for the numbers and for the reader of the report. A duration has a
time: when the frame that shows it was presented.
"""

from dataclasses import dataclass

import numpy as np

from ..sinks.trace_row import PRESENTED
from .frame_log import NONE, Ints, Rows

DEFINITIONS = {
    "video_delay": "from capture_ns to present_ns of a frame: release of a picture that was decoded ahead (of a live "
    "source: arrival) until the presenting sink is done with it",
    "annotation_delay": "from the capture of the frame a mask was computed from to the end of presenting the first "
    "picture that carries it",
    "present_interval": "from the end of presenting a picture to the end of presenting the next",
    "release_lateness": "from when a recorded picture was due to its release; in none of the delays",
    "overlay.wait": "from capture until overlay begins with the picture",
    "overlay.service": "overlay: copying, drawing and presenting one picture",
    "preprocess.wait": "from capture until preprocess begins, for masks that were shown",
    "preprocess.service": "preprocess: field of view, crop, resize, for masks that were shown",
    "infer.wait": "from the end of preprocess until infer begins, for masks that were shown",
    "infer.service": "infer: the segmenter, its checks and packing, for masks that were shown",
    "mask.wait": "from the end of infer until overlay begins to make the mask ready",
    "mask.service": "overlay: unpacking a mask and preparing its marks",
    "mask.shown": "from a mask made ready to the end of presenting the first picture that carries it: mostly the wait "
    "for the next picture",
    "witness.delay": "from a complete picture about to be written to the program's input to its being in the X "
    "server's frame buffer, seen from outside",
    "witness.interval": "between the appearances of two frames on the screen",
    "witness.error": "half of the time between two looks at the screen: how far off each frame's delay may be",
}
STAGE_SERIES = tuple(name for name in DEFINITIONS if "." in name)


@dataclass(frozen=True, slots=True)
class Values:
    """Durations and when each showed itself, both int64 nanoseconds and of one length, in the order of time."""

    at_ns: Ints
    value_ns: Ints


class SeriesReader:
    """Takes the durations out of a log, piece by piece.

    Args:
        paced: whether frames were due at a time, so that lateness means something.
    """

    def __init__(self, paced: bool) -> None:
        self._paced = paced
        self._last_present_ns: int | None = None

    def values(self, rows: Rows) -> dict[str, Values]:
        """All series of the next piece."""
        shown = rows.are(PRESENTED)
        at_ns = rows["present_ns"][shown]
        frames = {name: rows[name][shown] for name in rows.numbers}
        found = {
            "video_delay": Values(at_ns, at_ns - frames["capture_ns"]),
            "present_interval": self._intervals(at_ns),
            **_differences(
                frames,
                at_ns,
                {
                    "overlay.wait": ("overlay_received_ns", "capture_ns"),
                    "overlay.service": ("overlay_done_ns", "overlay_received_ns"),
                },
            ),
        }
        if self._paced:
            found |= _differences(frames, at_ns, {"release_lateness": ("capture_ns", "due_ns")})
        return found | self._mask_values(frames, at_ns)

    def _mask_values(self, frames: dict[str, Ints], at_ns: Ints) -> dict[str, Values]:
        """Of each mask that was shown, in the first picture that carries it."""
        first = frames["first_shown"] == 1
        masks = {name: values[first] for name, values in frames.items()}
        ends = {
            "annotation_delay": ("present_ns", "mask_capture_ns"),
            "preprocess.wait": ("preprocess_received_ns", "mask_capture_ns"),
            "preprocess.service": ("preprocess_done_ns", "preprocess_received_ns"),
            "infer.wait": ("infer_received_ns", "preprocess_done_ns"),
            "infer.service": ("infer_done_ns", "infer_received_ns"),
            "mask.wait": ("mask_received_ns", "infer_done_ns"),
            "mask.service": ("mask_ready_ns", "mask_received_ns"),
            "mask.shown": ("present_ns", "mask_ready_ns"),
        }
        return _differences(masks, at_ns[first], ends)

    def _intervals(self, at_ns: Ints) -> Values:
        if not len(at_ns):
            return Values(at_ns, at_ns)
        before = at_ns[:1] if self._last_present_ns is None else np.array([self._last_present_ns], np.int64)
        ends = np.concatenate((before, at_ns))
        intervals = ends[1:] - ends[:-1]
        first = self._last_present_ns is None
        self._last_present_ns = int(at_ns[-1])
        return Values(at_ns[first:], intervals[first:])


def _differences(
    columns: dict[str, Ints], at_ns: Ints, ends: dict[str, tuple[str, str]]
) -> dict[str, Values]:
    """End less begin, where both are there."""
    found = {}
    for name, (end, begin) in ends.items():
        known = (columns[end] != NONE) & (columns[begin] != NONE)
        found[name] = Values(at_ns[known], columns[end][known] - columns[begin][known])
    return found
