"""The ledger's arithmetic, from boards filled by hand: what closes, and what is not made to close."""

from typing import Any

import pytest

from endostream.pipeline.board import Board, Topology
from endostream.pipeline.host import RunSpec
from endostream.pipeline.report import LinkTotals, RunTotals, ledger_errors
from endostream.pipeline.supervisor import Outcome, SourceOutcome
from endostream.pipeline.totals import frame_counts, link_totals, run_totals, sink_totals, source_totals

VIDEO = "capture-overlay"


def board_with(cells: dict[str, int], sources: int = 1, sinks: int = 1) -> Board:
    board = Board.create(Topology(sources, sinks))[0]
    for name, value in cells.items():
        board.cell(name).value = value
    return board


def link(**cells: int) -> dict[str, int]:
    return {f"{VIDEO}.{name.replace('dropped_', 'dropped.')}": value for name, value in cells.items()}


def test_a_quiet_link_closes() -> None:
    totals = link_totals(board_with(link(sent=10, acknowledged=7, dropped_superseded=3)), VIDEO)
    assert totals == LinkTotals(sent=10, received=7, dropped={"superseded": 3}, in_flight=0)


def test_what_has_not_ended_is_in_flight_as_long_as_nobody_died() -> None:
    totals = link_totals(board_with(link(sent=10, acknowledged=7)), VIDEO)
    assert (totals.in_flight, totals.dropped) == (3, {})


@pytest.mark.parametrize(("stage", "lost"), [("capture", 3), ("overlay", 3), ("infer", 0), ("record", 0)])
def test_what_a_dead_end_left_is_lost_and_a_stage_elsewhere_has_no_part_in_it(stage: str, lost: int) -> None:
    totals = link_totals(board_with({**link(sent=10, acknowledged=7), f"{stage}.restarts": 1}), VIDEO)
    assert totals.dropped.get("lost_with_stage", 0) == lost
    assert totals.in_flight == 3 - lost


def test_more_that_went_than_came_is_not_hidden() -> None:
    totals = link_totals(board_with({**link(sent=10, acknowledged=12), "capture.restarts": 1}), VIDEO)
    assert (totals.in_flight, totals.dropped) == (0, {})
    assert errors(links={VIDEO: totals}) == [
        "link capture-overlay: sent 10 ≠ received 12 + dropped 0 + in flight 0 (2 too many)"
    ]


def errors(**parts: Any) -> list[str]:
    return ledger_errors(
        RunTotals(
            status="done",
            exit_code=0,
            mode="live",
            segmenter="fcm",
            runtime="",
            presenting_sink="null",
            duration_s=1.0,
            **parts,
        )
    )


def frames(cells: dict[str, int], every_frame: bool) -> tuple[dict[str, int], int, list[str]]:
    """Drops, frames in flight and what does not close."""
    board = board_with(cells)
    counts = frame_counts(board, link_totals(board, VIDEO), every_frame)
    return counts.dropped, counts.in_flight, errors(frames=counts)


def test_live_frames_are_presented_dropped_on_their_link_or_in_flight() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 90}
    cells |= link(sent=100, acknowledged=90, dropped_superseded=6, dropped_no_reader=2)
    assert frames(cells, every_frame=False) == ({"superseded": 6, "no_reader": 2}, 2, [])


def test_a_frame_nobody_counted_is_found_out() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 90, **link(sent=100, acknowledged=99)}
    dropped, in_flight, wrong = frames(cells, every_frame=False)
    assert (dropped, in_flight) == ({}, 1)
    assert wrong == ["frames: captured 100 ≠ presented 90 + dropped 0 + in flight 1 (9 unaccounted for)"]


def test_a_frame_presented_by_an_overlay_that_died_before_it_said_so_is_counted_as_presented_only() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 96, "overlay.restarts": 1}
    cells |= link(sent=100, acknowledged=95, lost_with_stage=5)
    assert frames(cells, every_frame=False) == ({"lost_with_stage": 4}, 0, [])


def test_the_only_frame_lost_with_overlay_may_have_been_presented() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 100, "overlay.restarts": 1}
    cells |= link(sent=100, acknowledged=99, lost_with_stage=1)
    assert frames(cells, every_frame=False) == ({}, 0, [])


def test_more_presented_than_one_a_restart_beyond_what_was_acknowledged_does_not_close() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 98, "overlay.restarts": 1}
    cells |= link(sent=100, acknowledged=95, lost_with_stage=5)
    _, _, wrong = frames(cells, every_frame=False)
    assert wrong == ["frames: captured 100 ≠ presented 98 + dropped 5 + in flight 0 (3 too many)"]


def test_in_every_frame_mode_frames_sent_again_are_not_frames_dropped() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 100, "overlay.restarts": 1}
    cells |= link(sent=120, acknowledged=100, dropped_duplicate=12, lost_with_stage=8)
    assert frames(cells, every_frame=True) == ({}, 0, [])


def test_in_every_frame_mode_only_what_capture_holds_may_be_in_flight() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 92, "capture.held": 8}
    assert frames(cells, every_frame=True) == ({}, 8, [])
    cells["capture.held"] = 7
    assert frames(cells, every_frame=True)[2] == [
        "frames: captured 100 ≠ presented 92 + dropped 0 + in flight 7 (1 unaccounted for)"
    ]


def test_in_every_frame_mode_a_frame_presented_twice_does_not_close() -> None:
    cells = {"capture.captured": 100, "overlay.presented": 101}
    assert frames(cells, every_frame=True)[2] == [
        "frames: captured 100 ≠ presented 101 + dropped 0 + in flight 0 (1 too many)"
    ]


def sink(cells: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    totals = sink_totals(board_with({"overlay.presented": 50, **cells}), 0)
    return totals.dropped_by_cause, errors(sinks={"jsonl:o": totals})


def test_a_sink_that_wrote_all_closes() -> None:
    assert sink({"sink0.written": 50, "overlay-record.sent": 50, "overlay-record.acknowledged": 50}) == (
        {},
        [],
    )


def test_what_a_sink_did_not_write_is_told_by_cause_its_links_drops_with_it() -> None:
    cells = {"sink0.written": 40, "sink0.dropped.sink_full": 6, "overlay-record.sent": 50}
    cells |= {"overlay-record.dropped.link_full": 4, "overlay-record.acknowledged": 46}
    assert sink(cells) == ({"sink_full": 6, "link_full": 4}, [])


def test_what_a_killed_record_process_held_is_lost_with_it() -> None:
    assert sink({"sink0.written": 47, "record.restarts": 1}) == ({"lost_with_stage": 3}, [])


def test_what_was_on_its_way_when_a_run_was_cut_short_is_said_to_be_so() -> None:
    cells = {"sink0.written": 40, "sink0.dropped.end_of_run": 3}
    cells |= {"overlay-record.sent": 50, "overlay-record.acknowledged": 43}
    assert sink(cells) == ({"end_of_run": 10}, [])


def test_a_written_frame_nobody_presented_does_not_close() -> None:
    _, wrong = sink({"sink0.written": 51})
    assert wrong == ["sink jsonl:o: offered 50 ≠ written 51 + dropped 0 + in flight 0 (1 too many)"]


def test_a_frame_a_sink_never_accounted_for_does_not_close() -> None:
    _, wrong = sink({"sink0.written": 49, "overlay-record.sent": 50, "overlay-record.acknowledged": 50})
    assert wrong == ["sink jsonl:o: offered 50 ≠ written 49 + dropped 0 + in flight 0 (1 unaccounted for)"]


def test_sources_are_told_apart() -> None:
    board = board_with(
        {"source1.captured": 9, "source1.presented": 7, "source1.gaps": 4, "source1.state.held": 7}, 2
    )
    outcome = SourceOutcome(None, "lost", "cut off", {"corrupt_packet": 1})
    totals = source_totals(board, 1, "b.avi", outcome)
    assert (totals.index, totals.address, totals.status) == (1, "b.avi", "lost")
    assert (totals.captured, totals.presented, totals.dropped) == (9, 7, {"all": 2})
    assert totals.faults == {"corrupt_packet": 1, "lost_at_source": 4}
    assert outcome.faults == {"corrupt_packet": 1}
    assert totals.mask_state["held"] == 7


def test_a_run_in_which_nothing_happened_has_no_series_and_closes() -> None:
    board = Board.create(Topology(1, 0))[0]
    spec = RunSpec("", "live", {}, ("a.avi",))
    totals = run_totals(board, spec, Outcome(0, sources=[SourceOutcome()]), "fcm")
    assert totals.video_delay_ms is None
    assert totals.longest_freeze_ms is None
    assert totals.duration_s == 0
    assert "overlay-record" not in totals.links
    assert "record" not in totals.stages
    assert ledger_errors(totals) == []


def test_faults_are_told_by_seconds_since_the_start() -> None:
    board = Board.create(Topology(1, 1))[0]
    outcome = Outcome(5_000_000_000, sources=[SourceOutcome()], events=[(7_250_000_000, "infer", "killed")])
    totals = run_totals(board, RunSpec("", "live", {}, ("a.avi",), sinks=("jsonl:o",)), outcome, "fcm")
    assert [(fault.at_s, fault.where, fault.what) for fault in totals.faults] == [(2.25, "infer", "killed")]
    assert list(totals.sinks) == ["jsonl:o"]
