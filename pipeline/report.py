"""The report of a run: its raw totals, the JSON other tools build on, the ledger check, and writing it whole.

Separate from the supervisor, which only counts, so that what a number means is said in one place and a report
can be made and checked without a run. It does not read shared memory, and it prints nothing
(``report_table.py`` does).

Series are ``Histogram.summary_ms()``: milliseconds, None where nothing was measured, never 0. Counts by cause
are dicts of cause to count; a cause that did not occur may be left out.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from endostream.configs.errors import SinkError

from .frame import MaskState
from .histogram import SeriesMs
from .source import SourceInfo

SCHEMA = 1
Counts = dict[str, int]
Series = SeriesMs | None


@dataclass(slots=True, kw_only=True)
class FrameCounts:
    """Where the frames went. Pictures we made ourselves are ``synthetic`` and in none of the others.

    Attributes:
        captured: taken from the source.
        presented: shown, or finished where the null sink presents.
        annotated: presented with a valid mask (fresh or held), be it empty.
        positive: presented with something drawn, None if not counted.
        in_flight: captured, neither presented nor dropped when the run ended.
        not_shown: of those presented, what a window whose display was away or slow did not draw.
    """

    captured: int = 0
    presented: int = 0
    annotated: int = 0
    positive: int | None = None
    dropped: Counts = field(default_factory=dict)
    in_flight: int = 0
    synthetic: int = 0
    not_shown: int = 0
    ledger_closed: bool = True


@dataclass(slots=True, kw_only=True)
class MaskCounts:
    """What became of the masks: ``superseded`` were computed but a newer one was there first."""

    computed: int = 0
    presented: int = 0
    superseded: int = 0


@dataclass(slots=True, kw_only=True)
class StageTotals:
    """One stage: how long it worked on a frame, how long a frame waited for it, how often it restarted."""

    service_ms: Series = None
    wait_ms: Series = None
    restarts: int = 0


@dataclass(slots=True, kw_only=True)
class LinkTotals:
    """One link in descriptors; ``dropped`` knows the cause ``lost_with_stage`` too."""

    sent: int = 0
    received: int = 0
    dropped: Counts = field(default_factory=dict)
    in_flight: int = 0


@dataclass(slots=True, kw_only=True)
class SinkTotals:
    """One sink in frames: ``offered`` to it, ``written`` by it; ``synthetic`` ones are in neither."""

    offered: int = 0
    written: int = 0
    dropped_by_cause: Counts = field(default_factory=dict)
    synthetic: int = 0
    write_delay_ms: Series = None
    dropped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.dropped = sum(self.dropped_by_cause.values())


@dataclass(slots=True, kw_only=True)
class SourceTotals:
    """One source: what it said of itself and what became of its frames, where that is counted by source.

    ``faults`` counts what was wrong with it by cause; ``status`` is ``done``, ``lost``, ``missing`` or the
    like; ``info`` is what it said of itself, and lies beside the counts in the JSON.
    """

    address: str
    index: int = 0
    status: str = "done"
    info: dict[str, Any] = field(default_factory=dict)
    captured: int = 0
    presented: int = 0
    positive: int | None = None
    dropped: Counts = field(default_factory=dict)
    mask_state: Counts = field(default_factory=dict)
    video_delay_ms: Series = None
    annotation_delay_ms: Series = None
    faults: Counts = field(default_factory=dict)

    @classmethod
    def from_info(cls, index: int, info: SourceInfo) -> Self:
        """An entry with nothing counted yet; fractions are told as decimal numbers and text."""
        said = asdict(info)
        said["time_base"] = str(info.time_base)
        said["fps"] = None if info.fps is None else round(float(info.fps), 6)
        said["size_hw"], said["assumed"] = list(info.size_hw), list(info.assumed)
        return cls(address=said.pop("address"), index=index, info=said)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong in the run: ``at_s`` seconds after its start, where, and what in one line."""

    at_s: float
    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class RunTotals:
    """The raw material of a report, as the supervisor reads it from shared memory when a run has ended.

    Attributes:
        status: ``done``, ``interrupted``, ``failed``, …
        mode: ``live`` or ``every-frame``.
        runtime: what computes the segmenter, with its version, and where if that is another machine.
        passed_over: runtimes that ``auto`` would have liked better, and why it could not take them.
        weights_sha256: of the network's file that computed, None where there is none.
        presenting_sink: its label.
        duration_s: from the release of the first frame to the end of the last.
        longest_freeze_ms: longest interval between two presented frames; None with fewer than two.
        frames: ``annotated`` and ``ledger_closed`` are worked out here and need not be filled in.
        mask_state: presented frames by ``MaskState.label``.
        run_id: as logs and metrics name the run.
        command: the command line; ``config``: the merged configuration; ``started_utc``: ISO 8601.
    """

    status: str
    exit_code: int
    mode: str
    segmenter: str
    runtime: str
    presenting_sink: str
    duration_s: float
    longest_freeze_ms: float | None = None
    frames: FrameCounts = field(default_factory=FrameCounts)
    masks: MaskCounts = field(default_factory=MaskCounts)
    mask_state: Counts = field(default_factory=dict)
    video_delay_ms: Series = None
    annotation_delay_ms: Series = None
    release_lateness_ms: Series = None
    sources: list[SourceTotals] = field(default_factory=list)
    stages: dict[str, StageTotals] = field(default_factory=dict)
    links: dict[str, LinkTotals] = field(default_factory=dict)
    sinks: dict[str, SinkTotals] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    weights_sha256: str | None = None
    started_utc: str = ""
    command: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Report(RunTotals):
    """The totals with what follows from them; its fields are the keys of the JSON (docs/design.md)."""

    schema: int = SCHEMA
    throughput_fps: float = 0.0
    masks_per_s: float = 0.0


def report_from_totals(totals: RunTotals) -> Report:
    """Work out what follows from ``totals``: rates, annotated frames, and whether the ledger closes."""
    report = Report(**{name: getattr(totals, name) for name in RunTotals.__dataclass_fields__})
    report.mask_state = {state.label: totals.mask_state.get(state.label, 0) for state in MaskState}
    annotated = sum(report.mask_state[state.label] for state in MaskState if state.drawn)
    closed = not ledger_errors(totals)
    report.frames = replace(totals.frames, annotated=annotated, ledger_closed=closed)
    if totals.duration_s > 0:
        report.throughput_fps = round(totals.frames.presented / totals.duration_s, 3)
        report.masks_per_s = round(totals.masks.computed / totals.duration_s, 3)
    return report


def ledger_errors(report: RunTotals) -> list[str]:
    """Each account of the ledger that does not close, as one readable line; empty if all do."""
    frames = report.frames
    lines = [_mismatch("frames", "captured", frames.captured, "presented", frames.presented, frames)]
    lines += (
        _mismatch(f"link {name}", "sent", link.sent, "received", link.received, link)
        for name, link in report.links.items()
    )
    for name, sink in report.sinks.items():
        account = LinkTotals(dropped=sink.dropped_by_cause)
        lines.append(_mismatch(f"sink {name}", "offered", sink.offered, "written", sink.written, account))
    return [line for line in lines if line]


def _mismatch(
    account: str, came: str, came_in: int, went: str, went_out: int, rest: FrameCounts | LinkTotals
) -> str:
    """The line for one account, "" if it closes."""
    dropped = sum(rest.dropped.values())
    missing = came_in - went_out - dropped - rest.in_flight
    if not missing:
        return ""
    verdict = f"{missing} unaccounted for" if missing > 0 else f"{-missing} too many"
    return (
        f"{account}: {came} {came_in} ≠ {went} {went_out} + dropped {dropped} + in flight {rest.in_flight} "
        f"({verdict})"
    )


def report_json(report: Report) -> str:
    """The report as JSON text, keys in the order of docs/design.md, a newline at the end.

    A file name that is not UTF-8 keeps its lone surrogates; written with ``backslashreplace`` they are JSON.
    """
    fields = asdict(report)
    fields["sources"] = [source.pop("info") | source for source in fields["sources"]]
    ordered = {name: fields.pop(name) for name in _leading_keys()} | fields
    return json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _leading_keys() -> Iterator[str]:
    """What a person wants to see first in the file."""
    yield from ("schema", "status", "exit_code", "mode", "segmenter", "runtime", "sources", "presenting_sink")
    yield from ("duration_s", "throughput_fps", "masks_per_s", "longest_freeze_ms", "frames", "masks")


def write_report(path: Path, report: Report) -> None:
    """Write the report so that ``path`` holds all of it or what was there before, never a part.

    A pipe or a device (``/dev/stdout``) is written to directly.

    Raises:
        SinkError: it cannot be written.
    """
    text = report_json(report)
    target = path.resolve()
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_text(text, encoding="utf-8", errors="backslashreplace")
        else:
            _replace(target, text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SinkError(f"report: {path}; cannot be written ({reason}). Try: another path") from error


def _replace(target: Path, text: str) -> None:
    """Write a neighbour of ``target`` to disk, then rename it over ``target``; no neighbour stays behind."""
    neighbour = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with neighbour.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(target)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
