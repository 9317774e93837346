"""The report: its keys, what follows from the totals, the ledger, writing it whole, the terminal's words."""

import io
import json
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from endostream.configs.errors import SinkError
from endostream.pipeline.histogram import SeriesMs
from endostream.pipeline.report import (
    Fault,
    FrameCounts,
    LinkTotals,
    MaskCounts,
    Report,
    RunTotals,
    SinkTotals,
    SourceTotals,
    StageTotals,
    ledger_errors,
    report_from_totals,
    report_json,
    write_report,
)
from endostream.pipeline.report_table import print_report
from endostream.pipeline.source import SourceInfo

TOP_KEYS = [
    *("schema", "status", "exit_code", "mode", "segmenter", "runtime", "sources", "presenting_sink"),
    *("duration_s", "throughput_fps", "masks_per_s", "longest_freeze_ms", "frames", "masks", "mask_state"),
    *("video_delay_ms", "annotation_delay_ms", "release_lateness_ms", "stages", "links", "sinks", "faults"),
    "environment",
]
FRAME_KEYS = ("captured", "presented", "annotated", "dropped", "in_flight", "ledger_closed")
SERIES: SeriesMs = {"n": 10, "p50": 0.9, "p90": 1.2, "p99": 2.25, "p99_9": 3.5, "max": 4321.0}


def totals_of(
    frames: FrameCounts | None = None,
    links: dict[str, LinkTotals] | None = None,
    sinks: dict[str, SinkTotals] | None = None,
) -> RunTotals:
    return RunTotals(
        status="done",
        exit_code=0,
        mode="live",
        segmenter="fcm",
        runtime="numba 0.68.1",
        presenting_sink="null",
        duration_s=4.0,
        frames=frames or FrameCounts(captured=10, presented=8, dropped={"overwritten": 1}, in_flight=1),
        masks=MaskCounts(computed=6, presented=5, superseded=1),
        mask_state={"fresh": 5, "held": 2, "stale": 1},
        video_delay_ms=SERIES,
        stages={"infer": StageTotals(service_ms=SERIES)},
        links=links or {},
        sinks=sinks or {},
    )


def printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_without_a_picture_has_no_tables() -> None:
    totals = totals_of(FrameCounts(), links={"capture-overlay": LinkTotals()})
    totals.status, totals.exit_code = "failed", 3
    assert printed(report_from_totals(totals)) == "failed (exit code 3): no picture came\n"
    totals.frames.synthetic = 12
    line = "failed (exit code 3): no picture came; 12 made by us (no signal)\n"
    assert printed(report_from_totals(totals)) == line


def test_the_json_has_the_keys_that_other_tools_build_on() -> None:
    totals = totals_of(
        links={"capture-preprocess": LinkTotals(sent=1, received=1)},
        sinks={"video:o.mp4": SinkTotals(offered=2, written=2)},
    )
    told = json.loads(report_json(report_from_totals(totals)))
    assert told["schema"] == 1
    assert list(told)[:8] == TOP_KEYS[:8] and set(told) >= set(TOP_KEYS)
    assert set(told["frames"]) >= set(FRAME_KEYS)
    assert told["masks"] == {"computed": 6, "presented": 5, "superseded": 1}
    assert told["stages"]["infer"] == {"service_ms": SERIES, "wait_ms": None, "restarts": 0}
    assert told["links"]["capture-preprocess"] == {"sent": 1, "received": 1, "dropped": {}, "in_flight": 0}
    assert set(told["sinks"]["video:o.mp4"]) >= {"written", "dropped", "synthetic", "write_delay_ms"}


def test_rates_and_annotated_frames_follow_from_the_totals() -> None:
    report = report_from_totals(totals_of())
    assert (report.throughput_fps, report.masks_per_s) == (2.0, 1.5)
    assert report.frames.annotated == 7
    assert report.mask_state == {"absent": 0, "fresh": 5, "held": 2, "stale": 1, "failed": 0}
    assert report.frames.ledger_closed


def test_an_empty_series_is_null_in_the_json() -> None:
    assert '"annotation_delay_ms": null' in report_json(report_from_totals(totals_of()))


def test_a_run_of_no_duration_has_no_rate_and_does_not_divide_by_zero() -> None:
    totals = totals_of()
    totals.duration_s = 0.0
    assert report_from_totals(totals).throughput_fps == 0.0


def test_making_a_report_leaves_the_totals_as_they_were() -> None:
    totals = totals_of(frames=FrameCounts(captured=3))
    report = report_from_totals(totals)
    assert (report.frames.ledger_closed, totals.frames.ledger_closed) == (False, True)
    assert totals.mask_state == {"fresh": 5, "held": 2, "stale": 1}


@pytest.mark.parametrize(
    ("totals", "lines"),
    [
        (totals_of(), []),
        (
            totals_of(frames=FrameCounts(captured=10, presented=8, dropped={"overwritten": 1})),
            ["frames: captured 10 ≠ presented 8 + dropped 1 + in flight 0 (1 unaccounted for)"],
        ),
        (
            totals_of(
                links={"a-b": LinkTotals(sent=5, received=3, dropped={"lost_with_stage": 1}, in_flight=1)}
            ),
            [],
        ),
        (
            totals_of(links={"a-b": LinkTotals(sent=5, received=6)}),
            ["link a-b: sent 5 ≠ received 6 + dropped 0 + in flight 0 (1 too many)"],
        ),
        (
            totals_of(sinks={"png:d": SinkTotals(offered=9, written=4, dropped_by_cause={"queue_full": 4})}),
            ["sink png:d: offered 9 ≠ written 4 + dropped 4 + in flight 0 (1 unaccounted for)"],
        ),
    ],
)
def test_each_account_that_does_not_close_is_one_readable_line(totals: RunTotals, lines: list[str]) -> None:
    assert ledger_errors(totals) == lines
    assert report_from_totals(totals).frames.ledger_closed is (not lines)


def test_a_sinks_drops_are_told_as_a_number_and_by_cause() -> None:
    sink = SinkTotals(offered=9, written=4, dropped_by_cause={"queue_full": 3, "lost_with_stage": 2})
    told = json.loads(report_json(report_from_totals(totals_of(sinks={"png:d": sink}))))
    assert told["sinks"]["png:d"]["dropped"] == 5


def test_a_source_is_told_with_what_it_said_of_itself_beside_its_counts() -> None:
    info = SourceInfo(
        "a.avi", "file", (480, 560), Fraction(30000, 1001), Fraction(1, 90000), assumed=("pts",)
    )
    totals = totals_of()
    totals.sources = [SourceTotals.from_info(0, info)]
    totals.sources[0].captured = 7
    source = json.loads(report_json(report_from_totals(totals)))["sources"][0]
    assert source["address"] == "a.avi" and source["captured"] == 7
    assert (source["size_hw"], source["fps"], source["time_base"]) == ([480, 560], 29.97003, "1/90000")
    assert source["assumed"] == ["pts"] and "info" not in source


def test_a_written_report_is_whole_utf8_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    totals = totals_of()
    totals.command = ["replay", "Überblick.avi"]
    write_report(path, report_from_totals(totals))
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n") and "Überblick.avi" in text
    assert [child.name for child in tmp_path.iterdir()] == ["r.json"]


def test_a_file_name_that_is_not_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    totals = totals_of(sinks={"video:caf\udce9.mp4": SinkTotals()})
    report = report_from_totals(totals)
    write_report(tmp_path / "r.json", report)
    assert list(json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["sinks"]) == [
        "video:caf\udce9.mp4"
    ]
    assert "video:caf\\udce9.mp4" in printed(report)


def test_a_report_through_a_link_replaces_what_the_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_report(tmp_path / "link.json", report_from_totals(totals_of()))
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["status"] == "done"


@pytest.mark.parametrize("name", ["missing_folder/r.json", "folder"])
def test_a_report_that_cannot_be_written_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SinkError, match=r"report: .*; cannot be written \(.*\). Try: ") as caught:
        write_report(tmp_path / name, report_from_totals(totals_of()))
    assert "\n" not in str(caught.value)
    assert [child.name for child in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_and_the_device_is_not_replaced() -> None:
    with pytest.raises(SinkError, match="no space left on device"):
        write_report(Path("/dev/full"), report_from_totals(totals_of()))
    assert Path("/dev/full").is_char_device()


def test_a_failed_write_keeps_the_report_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(SinkError, match="no space left"):
        write_report(path, report_from_totals(totals_of()))
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["r.json"]


def test_the_terminal_shows_both_delays_and_a_dash_for_what_was_not_measured() -> None:
    lines = printed(report_from_totals(totals_of())).splitlines()
    video = next(line for line in lines if line.startswith("video: captured"))
    annotation = next(line for line in lines if line.startswith("annotation: captured"))
    assert video.split()[-6:] == ["10", "0.90", "1.20", "2.25", "3.50", "4,321"]
    assert annotation.split()[-6:] == ["–"] * 6


def test_the_terminal_names_causes_faults_and_paths_with_brackets() -> None:
    totals = totals_of(sinks={"png:[a]": SinkTotals(offered=3, written=3)})
    totals.faults = [Fault(1.5, "infer", "ended by SIGKILL [9]")]
    text = printed(report_from_totals(totals))
    assert "1 (overwritten 1)" in text
    assert "fault at 1.50 s, infer: ended by SIGKILL [9]" in text
    assert "png:[a]" in text


def test_the_terminal_says_whether_the_ledger_closed() -> None:
    assert "ledger closed: every frame" in printed(report_from_totals(totals_of()))
    open_ledger = printed(report_from_totals(totals_of(frames=FrameCounts(captured=2))))
    assert "ledger does not close: frames: captured 2 ≠" in open_ledger
    assert "ledger closed" not in open_ledger
