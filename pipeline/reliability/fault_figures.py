"""What a fault did to the video, from the trace of the display process and the run's report; and whether that may be.

Separate from the runs, so that it is tested with traces made by hand. A freeze is the time between two presented
pictures of the source; "no signal" is none of them. Annotation is back with the first presented fresh mask of a frame
that was captured after the fault was over, counted from the fault's begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..report import Report
from ..sinks.diary_sink import DiaryLine
from .fault_cells import LIMITS, Cell

_SETTLING_NS = 1_000_000_000
"""Of the beginning of a run, left out."""
DEFAULT_PERIOD_MS = 1000 / 30


@dataclass(frozen=True, slots=True)
class Moments:
    """When a fault began and was over, monotonic; 0 for never. Over: its process was gone, or its time."""

    begun_ns: int = 0
    over_ns: int = 0


@dataclass(slots=True)
class Figures:
    """One cell of the matrix, as it is printed and saved.

    Attributes:
        freeze_ms: longest, from the fault on; ``freeze_before_ms``: before it, for comparison.
        source_gap_ms: longest between two captures of frames that were shown: what of a freeze is the source's own.
        lost_frames: captured and never presented.
        again_s: see the module; None: it did not come back.
        lasted_s: the fault itself.
        restarts: by stage, those that had any.
        no_signal: pictures of our own that were shown.
        sink_dropped: presented pictures that were not recorded, None without a recorder.
        ended_s: of a run whose supervisor was killed: until its last process was gone.
        causes: what the run said of it.
        broken: which promises were not kept, in words.
    """

    stage: str
    fault: str
    variant: str
    what: str
    period_ms: float
    freeze_ms: float | None = None
    freeze_before_ms: float | None = None
    source_gap_ms: float | None = None
    captured: int = 0
    lost_frames: int = 0
    again_s: float | None = None
    lasted_s: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    no_signal: int = 0
    sink_dropped: int | None = None
    ledger_closed: bool = False
    exit_code: int = 0
    ended_s: float | None = None
    causes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def freeze_periods(self) -> float | None:
        """The freeze in frame periods."""
        return None if self.freeze_ms is None else round(self.freeze_ms / self.period_ms, 2)


def figures_of(cell: Cell, moments: Moments, trace: Sequence[DiaryLine], report: Report) -> Figures:
    """All figures of one cell."""
    fps = report.sources[0].info.get("fps") if report.sources else None
    figures = Figures(
        cell.stage, cell.fault, cell.variant, cell.words, 1000 / fps if fps else DEFAULT_PERIOD_MS
    )
    shown = [line for line in trace if not line.synthetic]
    figures.freeze_before_ms, figures.freeze_ms = freezes_ms(shown, moments.begun_ns)
    figures.source_gap_ms = source_gap_ms(shown, moments.begun_ns)
    figures.again_s = again_s(shown, moments)
    figures.lasted_s = round(max(0, moments.over_ns - moments.begun_ns) / 1e9, 3)
    frames = report.frames
    figures.captured, figures.lost_frames = frames.captured, frames.captured - frames.presented
    figures.restarts = {name: stage.restarts for name, stage in report.stages.items() if stage.restarts}
    figures.no_signal = frames.synthetic
    figures.sink_dropped = sum(sink.dropped for sink in report.sinks.values()) if report.sinks else None
    figures.ledger_closed, figures.exit_code = frames.ledger_closed, report.exit_code
    figures.causes = [f"{fault.where}: {fault.what}" for fault in report.faults]
    figures.broken = broken_promises(figures, cell, moments)
    return figures


def freezes_ms(shown: Sequence[DiaryLine], begun_ns: int) -> tuple[float | None, float | None]:
    """Longest time between two pictures before a fault and from it on, None where there were no two."""
    before: list[float] = []
    after: list[float] = []
    start_ns = shown[0].present_ns + _SETTLING_NS if shown else 0
    for one, next_one in pairwise(shown):
        if one.present_ns < start_ns and next_one.present_ns <= begun_ns:
            continue
        interval_ms = round((next_one.present_ns - one.present_ns) / 1e6, 2)
        (before if next_one.present_ns <= begun_ns else after).append(interval_ms)
    return max(before, default=None), max(after, default=None)


def source_gap_ms(shown: Sequence[DiaryLine], begun_ns: int) -> float | None:
    """Longest time from the fault on between two captures, None where there were no two."""
    gaps_ns = [
        later.capture_ns - earlier.capture_ns
        for earlier, later in pairwise(shown)
        if later.present_ns > begun_ns
    ]
    return round(max(gaps_ns) / 1e6, 2) if gaps_ns else None


def again_s(shown: Sequence[DiaryLine], moments: Moments) -> float | None:
    """Seconds from the fault's begin to the first fresh mask of a frame captured after it was over."""
    if not moments.over_ns:
        return None
    for line in shown:
        if line.state == "fresh" and line.mask_ns is not None and line.mask_ns >= moments.over_ns:
            return round((line.present_ns - moments.begun_ns) / 1e9, 3)
    return None


def broken_promises(figures: Figures, cell: Cell, moments: Moments) -> list[str]:
    """What was promised and not kept, a phrase each."""
    limits, broken = LIMITS[cell.stage], []
    if not moments.begun_ns:
        return ["the run never settled, so nothing was done to it"]
    freeze_ms = figures.freeze_ms
    most_ms = limits.freeze_ms or (limits.freeze_periods or 0) * figures.period_ms
    if most_ms and (freeze_ms is None or freeze_ms > most_ms):
        late = (figures.source_gap_ms or 0) > most_ms
        why = f" (the source paused for {figures.source_gap_ms} ms)" if late else ""
        broken.append(f"freeze over {most_ms:.1f} ms{why}")
    if limits.lost_frames is not None and figures.lost_frames > limits.lost_frames:
        broken.append(f"{figures.lost_frames} frames lost")
    if figures.again_s is None:
        broken.append("annotation not back")
    elif limits.again_s is not None and figures.again_s >= limits.again_s:
        broken.append(f"annotation back after {limits.again_s:g} s or more")
    if not figures.ledger_closed:
        broken.append("ledger not closed")
    if figures.exit_code != cell.exit_code:
        broken.append(f"exit code {figures.exit_code} instead of {cell.exit_code}")
    return broken
