"""From the board and the outcome to the raw totals of a report: which cells make up which number.

Separate from the report, which knows no shared memory, and from the supervisor, which only runs. The ledger is not
made to close here: each side of every account is counted by another process.
"""

from endostream.configs.errors import ExitCode

from .board import LINKS, READER_CAUSES, STAGES, WRITER_CAUSES, Board
from .frame import MaskState
from .host import RunSpec
from .link import unaccounted
from .report import (
    Fault,
    FrameCounts,
    LinkTotals,
    MaskCounts,
    RunTotals,
    SinkTotals,
    SourceTotals,
    StageTotals,
)
from .sources.live_address import redacted
from .supervisor import Outcome, SourceOutcome

VIDEO_LINK = "capture-overlay"
ENDS = {link: tuple(link.split("-")) for link in LINKS}


def link_totals(board: Board, link: str) -> LinkTotals:
    """One link's account. What a restarted writer left behind is known as lost only now that all is quiet."""
    sent, received, rest = (
        board.value(f"{link}.sent"),
        board.value(f"{link}.acknowledged"),
        unaccounted(board, link),
    )
    causes = (*WRITER_CAUSES, *READER_CAUSES)
    dropped = {cause: count for cause in causes if (count := board.value(f"{link}.dropped.{cause}"))}
    lost = board.value(f"{link}.lost_with_stage")
    restarted = any(board.value(f"{stage}.restarts") for stage in ENDS[link])
    if restarted and rest > 0:
        lost, rest = lost + rest, 0
    if lost:
        dropped["lost_with_stage"] = lost
    return LinkTotals(sent=sent, received=received, dropped=dropped, in_flight=max(rest, 0))


def frame_counts(board: Board, video: LinkTotals, every_frame: bool) -> FrameCounts:
    """The frames' account: captured by capture, presented by overlay, dropped on the link between them.

    In every-frame mode a frame lost with a stage is sent again, so only what capture itself still holds may be in
    flight; that is what a run that was cut short leaves. In live mode a message lost with overlay may be of a frame
    that it had presented and not yet acknowledged when it died, one for each time it was restarted at most.
    """
    captured, presented = board.value("capture.captured"), board.value("overlay.presented")
    dropped = dict(video.dropped)
    in_flight = video.in_flight
    if every_frame:
        dropped = {cause: n for cause, n in dropped.items() if cause not in ("duplicate", "lost_with_stage")}
        held = board.value("capture.held")
        rest = captured - presented - sum(dropped.values())
        in_flight = rest if 0 <= rest <= held else held
    elif lost := dropped.pop("lost_with_stage", 0):
        unseen = captured - presented - sum(dropped.values()) - in_flight
        if not 0 <= lost - unseen <= board.value("overlay.restarts"):
            unseen = lost
        if unseen:
            dropped["lost_with_stage"] = unseen
    return FrameCounts(
        captured=captured,
        presented=presented,
        positive=sum(board.value(f"source{i}.positive") for i in range(board.topology.sources)),
        dropped=dropped,
        in_flight=in_flight,
        synthetic=board.value("overlay.synthetic"),
        not_shown=board.value("overlay.not_shown"),
    )


def sink_totals(board: Board, number: int) -> SinkTotals:
    """One sink's account: offered is what was presented."""
    offered, written = board.value("overlay.presented"), board.value(f"sink{number}.written")
    dropped = {cause: count for cause, count in board.group(f"sink{number}.dropped").items() if count}
    link = link_totals(board, "overlay-record")
    for cause, count in link.dropped.items():
        if cause not in ("lost_with_stage", "duplicate"):
            dropped[cause] = dropped.get(cause, 0) + count
    rest = offered - written - sum(dropped.values())
    if rest > 0 and (board.value("record.restarts") or board.value("overlay.restarts")):
        dropped["lost_with_stage"] = rest
    elif 0 < rest <= link.in_flight:
        dropped["end_of_run"] = dropped.get("end_of_run", 0) + rest
    return SinkTotals(
        offered=offered,
        written=written,
        dropped_by_cause=dropped,
        synthetic=board.value(f"sink{number}.synthetic"),
        write_delay_ms=board.histogram(f"sink{number}.write_delay").summary_ms(),
    )


def session_totals(board: Board, spec: RunSpec) -> dict[str, SinkTotals]:
    """The streams of the recorded session, by label. The raw video counts packets where these are copied, frames where
    it is encoded; what came while nothing was recorded was not offered."""
    frames = board.value("overlay.presented") - board.value("overlay.not_handed")
    links = {name: link_totals(board, name) for name in ("overlay-record", "capture-record")}
    totals = {}
    for stream, number in spec.session_sinks.items():
        cells, dropped = board.group(f"sink{number}"), board.group(f"sink{number}.dropped")
        packets = links["capture-record"].sent
        came = board.value("overlay.handed_without_packet") + packets if stream == "raw" else frames
        lost = dict(links["overlay-record"].dropped)
        if stream == "raw" and packets:
            lost = dict(links["capture-record"].dropped)
        for cause in ("lost_with_stage", "duplicate"):
            lost.pop(cause, None)
        for cause, count in lost.items():
            dropped[cause] = dropped.get(cause, 0) + count
        offered, dropped = came - cells["paused"], {cause: n for cause, n in dropped.items() if n}
        rest = offered - cells["written"] - sum(dropped.values())
        if rest > 0 and any(board.value(f"{stage}.restarts") for stage in ("capture", "overlay", "record")):
            dropped["lost_with_stage"] = rest
        elif 0 < rest <= sum(link.in_flight for link in links.values()):
            dropped["end_of_run"] = dropped.get("end_of_run", 0) + rest
        totals[f"record:{stream}"] = SinkTotals(
            offered=offered,
            written=cells["written"],
            dropped_by_cause=dropped,
            synthetic=cells["synthetic"],
            write_delay_ms=board.histogram(f"sink{number}.write_delay").summary_ms(),
        )
    return totals


def source_totals(board: Board, number: int, address: str, outcome: SourceOutcome) -> SourceTotals:
    """One source: what it said of itself, and what became of its frames."""
    totals = (
        SourceTotals(address=address)
        if outcome.info is None
        else SourceTotals.from_info(number, outcome.info)
    )
    cells = board.group(f"source{number}")
    totals.index = number
    totals.address = redacted(address)
    totals.status = outcome.status
    totals.faults = outcome.all_faults
    totals.captured, totals.presented, totals.positive = (
        cells["captured"],
        cells["presented"],
        cells["positive"],
    )
    missing = cells["captured"] - cells["presented"]
    totals.dropped = {"all": missing} if missing > 0 else {}
    if cells["gaps"]:
        totals.faults["lost_at_source"] = cells["gaps"]
    totals.mask_state = {state.label: cells[f"state.{state.label}"] for state in MaskState}
    totals.video_delay_ms = board.histogram(f"source{number}.video_delay").summary_ms()
    totals.annotation_delay_ms = board.histogram(f"source{number}.annotation_delay").summary_ms()
    return totals


def run_totals(board: Board, spec: RunSpec, outcome: Outcome, segmenter: str) -> RunTotals:
    """Everything the report is made of but the environment, the command line and the final exit code."""
    recorded = bool(spec.sinks or outcome.recorded)
    links = {link: link_totals(board, link) for link in LINKS if recorded or not link.endswith("-record")}
    if not outcome.recorded:
        links.pop("capture-record", None)
    first_ns, last_ns = board.value("capture.first_capture_ns"), board.value("overlay.last_present_ns")
    freeze_ns = board.value("overlay.longest_freeze_ns")
    return RunTotals(
        status="interrupted" if outcome.interrupted else "done",
        exit_code=int(ExitCode.DONE),
        mode=spec.mode,
        segmenter=segmenter,
        runtime=outcome.runtime,
        passed_over=outcome.passed_over,
        weights_sha256=outcome.weights_sha256,
        presenting_sink=spec.presenting,
        duration_s=round(max(0, last_ns - first_ns) / 1e9, 6),
        longest_freeze_ms=round(freeze_ns / 1e6, 4) if freeze_ns else None,
        frames=frame_counts(board, links[VIDEO_LINK], spec.every_frame),
        masks=MaskCounts(
            computed=board.value("infer.processed"),
            presented=board.value("overlay.masks_presented"),
            superseded=board.value("overlay.masks_superseded"),
        ),
        mask_state=board.group("overlay.state"),
        video_delay_ms=board.histogram("video_delay").summary_ms(),
        annotation_delay_ms=board.histogram("annotation_delay").summary_ms(),
        release_lateness_ms=board.histogram("release_lateness").summary_ms(),
        sources=[
            source_totals(board, number, address, outcome.sources[number])
            for number, address in enumerate(spec.sources)
        ],
        stages={
            stage: StageTotals(
                service_ms=board.histogram(f"{stage}.service").summary_ms(),
                wait_ms=board.histogram(f"{stage}.wait").summary_ms(),
                restarts=board.value(f"{stage}.restarts"),
            )
            for stage in STAGES
            if stage != "record" or recorded
        },
        links=links,
        sinks={label: sink_totals(board, number) for number, label in enumerate(spec.sinks)}
        | (session_totals(board, spec) if outcome.recorded else {}),
        faults=[
            Fault(round((at_ns - outcome.started_ns) / 1e9, 3), where, what)
            for at_ns, where, what in outcome.events
        ],
    )
