"""The columns of the frame log, and one row of it from a presented frame. Separate from the sink that writes the
file, so that whoever reads such a file (``endostream profile``) finds here what a column means.

All times are monotonic nanoseconds of one clock; an empty cell is none. ``event`` is one of:

* ``presented``: a frame with all its stamps.
* ``dropped``: ``frames`` frames from ``seq`` on, captured or lost by the source, and not presented; ``cause``.
* ``not_logged``: frames that were presented and are not in this log, because record had no room for them.
* ``synthetic``: a picture of our own ("no signal").

Of a recorded frame ``due_ns`` is when it was due and ``capture_ns`` when it was released; ``overlay_received_ns`` to
``overlay_done_ns`` is drawing, which ends when it is presented. The mask's own way follows: the frame it was computed
from, when that was captured, both stages, and overlay making it ready; ``first_shown`` is 1 in the first presented
frame that carries the mask, so every mask has one such row. ``cause`` says why a frame was dropped or failed.
"""

from collections.abc import Iterator

from ..frame import FrameKey, Presented, Stamp

COLUMNS = (
    *("event", "source", "loop", "seq", "frames", "pts", "time_base"),
    *("due_ns", "capture_ns", "overlay_received_ns", "overlay_done_ns", "present_ns", "state"),
    *("mask_seq", "mask_capture_ns", "preprocess_received_ns", "preprocess_done_ns"),
    *("infer_received_ns", "infer_done_ns", "mask_received_ns", "mask_ready_ns"),
    *("first_shown", "boxes", "area_px", "mask_crc32", "cause"),
)
TEXT_COLUMNS = ("event", "time_base", "state", "cause")
PRESENTED, DROPPED, NOT_LOGGED, SYNTHETIC = "presented", "dropped", "not_logged", "synthetic"

Value = int | str | None
Row = tuple[Value, ...]

_NONE = Stamp("", 0, 0)


def row_of(presented: Presented) -> Row:
    """The row of one presented frame, or of a picture of our own."""
    frame, note = presented.frame, presented.annotation
    stamps = {stamp.stage: stamp for stamp in frame.stamps}
    capture, overlay = stamps.get("capture"), stamps.get("overlay")
    return (
        SYNTHETIC if presented.synthetic else PRESENTED,
        *frame.key,
        1,
        frame.pts,
        f"{frame.time_base.numerator}/{frame.time_base.denominator}",
        capture.received_ns if capture else None,
        frame.capture_ns,
        overlay.received_ns if overlay else None,
        overlay.done_ns if overlay else None,
        presented.present_ns,
        note.state.label,
        note.mask_seq,
        *_mask_way(presented),
        None if note.mask_seq is None else int(presented.annotation_delay_ns is not None),
        len(note.boxes),
        note.area_px,
        note.mask_crc32,
        note.cause,
    )


def lost_row(key: FrameKey, frames: int, cause: str) -> Row:
    """The row of frames that are not in the log, from ``key`` on."""
    event = NOT_LOGGED if cause == NOT_LOGGED else DROPPED
    row: dict[str, Value] = {"event": event, "source": key.source_id, "loop": key.loop, "seq": key.seq}
    row |= {"frames": frames, "cause": cause}
    return tuple(row.get(column) for column in COLUMNS)


def _mask_way(presented: Presented) -> Iterator[int | None]:
    """When the mask's frame was captured, then begin and end of preprocess, infer, and making it ready."""
    stamps = {stamp.stage: stamp for stamp in presented.mask_stamps}
    capture = stamps.get("capture")
    yield capture.done_ns if capture else None
    for stage in ("preprocess", "infer", "overlay"):
        stamp = stamps.get(stage, _NONE)
        yield stamp.received_ns or None
        yield stamp.done_ns or None
