"""What overlay counts of presented frames, on the board: how many, in which state, how late, how far apart.

Separate from presenting so that each number has one place where it is made. It also knows which frames were
presented already, by this overlay or by the one before a restart.
"""

from .board import Board
from .frame import Annotation, FrameKey
from .wire import FrameHeader


class PresentTally:
    """Overlay's cells and histograms; it is their one writer."""

    def __init__(self, board: Board) -> None:
        self._cells = {name: board.cell(f"overlay.{name}") for name in board.group("overlay")}
        self._video_delay = board.histogram("video_delay")
        self._annotation_delay = board.histogram("annotation_delay")
        self._interval = board.histogram("present_interval")
        sources = range(board.topology.sources)
        self._by_source = [
            {name: board.cell(f"source{number}.{name}") for name in board.group(f"source{number}")}
            for number in sources
        ]
        self._source_delays = [
            (
                board.histogram(f"source{number}.video_delay"),
                board.histogram(f"source{number}.annotation_delay"),
            )
            for number in sources
        ]
        self.draw_errors = self._cells["draw_errors"]
        self.masks_superseded = self._cells["masks_superseded"]
        self.masks_discarded = self._cells["masks_discarded"]
        self.synthetic = self._cells["synthetic"]

    def presented_before(self, key: FrameKey) -> bool:
        """Whether this frame, or one after it, was presented already."""
        cells = self._cells
        next_up = (cells["last_loop"].value, cells["last_source_id"].value, cells["next_seq"].value)
        return (key.loop, key.source_id, key.seq) < next_up

    def next_key(self) -> FrameKey:
        """The frame after the one presented last, be it by an overlay before a restart."""
        cells = self._cells
        return FrameKey(cells["last_source_id"].value, cells["last_loop"].value, cells["next_seq"].value)

    def count(
        self, header: FrameHeader, note: Annotation, present_ns: int, delay_ns: int | None, shown: bool = True
    ) -> None:
        """Count one presented frame; ``delay_ns`` is the mask's annotation delay if this frame is its first.

        What a window that was away did not show has no delay, and lasts as a freeze.
        """
        key = header.key
        if shown:
            video_delay_ns = present_ns - header.capture_ns
            self._video_delay.record(video_delay_ns)
            self._source_delays[key.source_id][0].record(video_delay_ns)
            self._note_interval(present_ns)
        else:
            self._cells["not_shown"].add()
        if delay_ns is not None:
            self._cells["masks_presented"].add()
            self._annotation_delay.record(delay_ns)
            self._source_delays[key.source_id][1].record(delay_ns)
        source = self._by_source[key.source_id]
        for cell in (
            self._cells[f"state.{note.state.label}"],
            source[f"state.{note.state.label}"],
            source["presented"],
        ):
            cell.add()
        if note.boxes:
            source["positive"].add()
        self._cells["mask_state"].value = note.state
        self._cells["mask_age_ns"].value = -1 if note.mask_age_ns is None else note.mask_age_ns
        self._cells["first_present_ns"].value = self._cells["first_present_ns"].value or present_ns
        self._cells["last_present_ns"].value = present_ns
        self._cells["last_loop"].value, self._cells["last_source_id"].value = key.loop, key.source_id
        self._cells["next_seq"].value = key.seq + 1
        self._cells["presented"].add()

    def _note_interval(self, present_ns: int) -> None:
        cells = self._cells
        if cells["last_shown_ns"].value:
            interval_ns = present_ns - cells["last_shown_ns"].value
            self._interval.record(interval_ns)
            cells["longest_freeze_ns"].value = max(cells["longest_freeze_ns"].value, interval_ns)
        cells["last_shown_ns"].value = present_ns
