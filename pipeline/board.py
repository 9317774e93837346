"""The board: every counter, gauge and histogram of a run in one block of shared memory that the supervisor owns.

Separate from the stages so that a stage that is killed does not take its counts along. Each cell has one writer;
anyone may read. The layout follows from the topology alone, so every process finds the same cell under the same
name. What the cells must add up to is said in ``ledger.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .frame import MaskState, SizeHW
from .histogram import Histogram
from .ring import Block
from .supervision import STAGES as STAGES

LINKS = (
    "capture-overlay",
    "capture-preprocess",
    "preprocess-infer",
    "infer-overlay",
    "overlay-record",
    "capture-record",
)

WRITER_CAUSES = ("no_reader", "link_full")
"""Why a writer did not send: nobody there to read; as many under way as the window allows."""
READER_CAUSES = (
    "superseded",
    "overwritten",
    "duplicate",
    "invalid",
    "source_changed",
    "stage_error",
    "network",
)
"""Why a reader did not use a message: a newer one was there; its slot was overwritten; it had it already; it could
not be parsed or did not fit; it belongs to another source or loop; the stage failed on it; the infer host on another
machine could not be reached or did not answer."""
SINK_CAUSES = ("sink_full", "sink_failed", "end_of_run", "no_key_frame", "no_picture")
"""Why a sink did not write: its queue was full; it had failed before, or failed on this one; the run was cut short
with the frame still in its queue; a packet before it is missing, so that it cannot be decoded; its picture was
overwritten."""

_STAGE_CELLS = (
    "state",
    "pid",
    "heartbeat_ns",
    "busy_since_ns",
    "processed",
    "errors",
    "restarts",
    "incarnation",
    "building_percent",
    "invalid_control",
)
_LINK_CELLS = (
    "sent",
    "acknowledged",
    "lost_with_stage",
    "resent",
    "invalid_messages",
    "other_epoch",
    "invalid_answers",
)
"""``invalid_messages``: what the reader refused because it cannot be a message; ``other_epoch``: what was meant for
another start of it; ``invalid_answers``: what the writer refused of what should be the reader's answers."""
_CAPTURE_CELLS = (
    "captured",
    "held",
    "source_gaps",
    "source_id",
    "loop",
    "next_seq",
    "safe_source_id",
    "safe_loop",
    "safe_next_seq",
    "first_capture_ns",
    "last_capture_ns",
)
_OVERLAY_CELLS = (
    "presented",
    "annotated",
    "synthetic",
    "masks_presented",
    "masks_superseded",
    "masks_discarded",
    "failed_frames",
    "not_shown",
    "first_present_ns",
    "last_present_ns",
    "last_shown_ns",
    "longest_freeze_ns",
    "draw_errors",
    "last_source_id",
    "last_loop",
    "next_seq",
    "mask_state",
    "mask_age_ns",
    "not_handed",
    "handed_without_packet",
    "prepared_size",
)
"""``prepared_size``: of the pictures that overlay has made ready for, packed."""
_SINK_CELLS = ("written", "synthetic", "failed", "paused", "next_loop", "next_source_id", "next_seq")
_HISTOGRAMS = ("video_delay", "annotation_delay", "release_lateness", "present_interval")


def packed_size(size_hw: SizeHW) -> int:
    """A size as one cell of the board holds it."""
    return size_hw[0] << 32 | size_hw[1]


@dataclass(frozen=True, slots=True)
class Topology:
    """What the layout of a board depends on: how many sources are played, how many sinks the record process has."""

    sources: int = 1
    sinks: int = 0

    def cells(self) -> Iterator[str]:
        """Names of all single cells, in order."""
        for stage in STAGES:
            yield from (f"{stage}.{cell}" for cell in _STAGE_CELLS)
        for link in LINKS:
            yield from (f"{link}.{cell}" for cell in _LINK_CELLS)
            yield from (f"{link}.dropped.{cause}" for cause in (*WRITER_CAUSES, *READER_CAUSES))
        yield from (f"capture.{cell}" for cell in _CAPTURE_CELLS)
        yield from (f"overlay.{cell}" for cell in _OVERLAY_CELLS)
        yield from (f"overlay.state.{state.label}" for state in MaskState)
        for source in range(self.sources):
            yield from (f"source{source}.{cell}" for cell in ("captured", "gaps", "presented", "positive"))
            yield from (f"source{source}.state.{state.label}" for state in MaskState)
        for sink in range(self.sinks):
            yield from (f"sink{sink}.{cell}" for cell in _SINK_CELLS)
            yield from (f"sink{sink}.dropped.{cause}" for cause in SINK_CAUSES)

    def histograms(self) -> Iterator[str]:
        """Names of all histograms, in order."""
        yield from _HISTOGRAMS
        for stage in STAGES:
            yield from (f"{stage}.service", f"{stage}.wait")
        for source in range(self.sources):
            yield from (f"source{source}.video_delay", f"source{source}.annotation_delay")
        yield from (f"sink{sink}.write_delay" for sink in range(self.sinks))


class Cell:
    """One int64 of the board. ``add`` and ``value =`` are for its one writer."""

    __slots__ = ("_index", "_memory")

    def __init__(self, memory: memoryview, index: int) -> None:
        self._memory = memory
        self._index = index

    def add(self, count: int = 1) -> None:
        """Count."""
        self._memory[self._index] += count

    @property
    def value(self) -> int:
        """What it holds now."""
        return int(self._memory[self._index])

    @value.setter
    def value(self, value: int) -> None:
        self._memory[self._index] = value


class Board:
    """A view of a block as named cells and histograms. It does not own the block."""

    def __init__(self, block: Block, topology: Topology) -> None:
        self.topology = topology
        names = list(topology.cells())
        self._index = {name: index for index, name in enumerate(names)}
        histograms = list(topology.histograms())
        self._starts = {
            name: len(names) + number * Histogram.cells() for number, name in enumerate(histograms)
        }
        self._array = np.frombuffer(block.map, np.int64)
        self._memory = self._array.data

    @staticmethod
    def size_bytes(topology: Topology) -> int:
        """Bytes a board of this topology takes."""
        return 8 * (
            sum(1 for _ in topology.cells()) + sum(1 for _ in topology.histograms()) * Histogram.cells()
        )

    @classmethod
    def create(cls, topology: Topology) -> tuple["Board", Block]:
        """A new board, all zero, and its block."""
        block = Block.create(cls.size_bytes(topology), "board", populate=False)
        return cls(block, topology), block

    def cell(self, name: str) -> Cell:
        """The cell ``name``; KeyError if there is none."""
        return Cell(self._memory, self._index[name])

    def value(self, name: str) -> int:
        """What the cell ``name`` holds now."""
        return int(self._memory[self._index[name]])

    def group(self, prefix: str) -> dict[str, int]:
        """All cells under ``prefix.``, by the rest of their name."""
        start = f"{prefix}."
        return {name[len(start) :]: self.value(name) for name in self._index if name.startswith(start)}

    def histogram(self, name: str) -> Histogram:
        """The histogram ``name``; KeyError if there is none."""
        start = self._starts[name]
        return Histogram(self._array[start : start + Histogram.cells()])
