"""What ``endostream top`` draws, read as text: each number of the record in its place, "–" for what nobody knows."""

import io
from typing import Any

from rich.console import Console

from endostream.pipeline.frame import MaskState
from endostream.pipeline.monitoring.run_rates import rates_between
from endostream.pipeline.monitoring.top_view import list_view, run_view
from endostream.pipeline.supervision import StageState
from endostream.pipeline.supervisor import Supervisor

from .run_records import record_at, set_cells, supervisor_of


def text_of(record: dict[str, Any], older: dict[str, Any] | None = None, ended: str = "") -> str:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(run_view(record, rates_between(record, older or record), ended))
    return console.export_text()


def cells_of(text: str, beginning: str) -> list[str]:
    """The words of the line that begins so, after that."""
    line = next(line for line in text.splitlines() if line.startswith(beginning))
    return line[len(beginning) :].split()


def busy_run() -> Supervisor:
    supervisor = supervisor_of("phantom:320x240", sinks=("video:o.mkv",))
    set_cells(
        supervisor.board,
        {
            "capture.captured": 1250,
            "overlay.presented": 1245,
            "overlay.mask_state": MaskState.HELD,
            "overlay.mask_age_ns": 80_000_000,
            "overlay.not_shown": 12,
            "capture-overlay.dropped.superseded": 5,
            "capture-preprocess.sent": 1250,
            "capture-preprocess.acknowledged": 1200,
            "capture-preprocess.dropped.superseded": 40,
            "capture-preprocess.dropped.link_full": 9,
            "capture-preprocess.lost_with_stage": 3,
            "infer.state": StageState.DOWN,
            "infer.restarts": 2,
            "sink0.written": 1000,
            "sink0.dropped.sink_full": 7,
        },
    )
    for milliseconds in range(1, 101):
        supervisor.board.histogram("video_delay").record(milliseconds * 1_000_000)
    return supervisor


def test_the_head_says_which_run_it_is_and_how_the_ai_does() -> None:
    supervisor = busy_run()
    first, second, third, fourth = text_of(record_at(supervisor, 1.0)).splitlines()[:4]
    assert supervisor.outcome.run_id in first and first.rstrip().endswith("running")
    assert second.rstrip() == "live, resunet-small, phantom:320x240"
    assert third.startswith("AI held, mask 80.00 ms old")
    assert fourth.rstrip() == "captured 1,250, presented 1,245, not shown 12, dropped 5 (superseded 5)"


def test_delays_of_the_last_seconds_stand_beside_those_of_the_run() -> None:
    supervisor = busy_run()
    older = record_at(supervisor, 1.0)
    supervisor.board.histogram("video_delay").record(3_000_000)
    text = text_of(record_at(supervisor, 11.0), older)
    assert "10 s p50" in text
    recent_p50, recent_p99, recent_max, p50, p99, p99_9, most, count = cells_of(text, "video delay")
    assert (recent_p50, recent_p99) == (recent_max, recent_max) and recent_max.startswith("3.0")
    assert (p50[:2], p99[:2], p99_9, most, count) == ("50", "99", "100", "100", "101")
    assert "annotation delay" not in text  # nothing of it was measured


def test_a_stage_that_is_down_and_one_without_a_process_are_told_apart_from_noughts() -> None:
    text = text_of(record_at(busy_run(), 1.0, capture={"pid": 42, "resident_bytes": 3 << 20, "cpu_s": 1.5}))
    assert cells_of(text, "infer ") == ["down", "–", "–", "–", "3", "0.0", "–", "–", "–", "–"]
    assert cells_of(text, "capture ")[:5] == ["absent", "42", "0", "3", "1"]


def test_links_and_sinks_say_what_they_dropped_and_why() -> None:
    text = text_of(record_at(busy_run(), 1.0))
    assert " ".join(cells_of(text, "capture-preprocess ")).endswith("3 0 49 (link_full 9, superseded 40)")
    assert " ".join(cells_of(text, "video:o.mkv")).startswith("– – 0.0 1,000 7 (sink_full 7) ")


def test_faults_are_counted_and_the_last_ones_shown() -> None:
    supervisor = busy_run()
    begun_ns = supervisor.outcome.started_ns
    supervisor.outcome.events += [
        (begun_ns + number * 10**9, "infer", f"killed {number}") for number in range(61, 71)
    ]
    lines = text_of(record_at(supervisor, 1.0)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("Faults: 10"))
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        f"0:01:{number - 60:02d}  infer: killed {number}" for number in range(68, 71)
    ]
    assert "infer: killed 67" not in "".join(lines)


MILLIONS = (
    "capture.captured",
    "overlay.presented",
    "capture-overlay.sent",
    "sink0.written",
    "overlay.not_shown",
)


def slow_run() -> dict[str, Any]:
    """The record of a run where every number is as long as it gets."""
    supervisor = supervisor_of(
        f"/srv/{'long/' * 20}a.avi", sinks=(f"video:/srv/{'long/' * 20}o.mkv", "jsonl:o")
    )
    set_cells(supervisor.board, dict.fromkeys(MILLIONS, 98_765_432))
    set_cells(
        supervisor.board, {"overlay.mask_age_ns": 98_765_400_000_000, "infer.state": StageState.GIVEN_UP}
    )
    for name in (
        "capture-overlay.dropped.superseded",
        "capture-overlay.dropped.link_full",
        "sink0.dropped.sink_full",
    ):
        set_cells(supervisor.board, {name: 98_765_432})
    series = (
        "video_delay",
        "annotation_delay",
        "release_lateness",
        "present_interval",
        "infer.wait",
        "overlay.service",
    )
    for name in (*series, "sink0.write_delay"):
        supervisor.board.histogram(name).record(12_345_600_000)
    events = [(supervisor.outcome.started_ns, "infer", "killed by SIGKILL; " * 9)] * 9
    supervisor.outcome.events += events
    stages = ("capture", "preprocess", "infer", "overlay")
    return record_at(
        supervisor, 11.0, **{it: {"pid": 4194304, "resident_bytes": 90_000 << 20} for it in stages}
    )


def lines_at(record: dict[str, Any], width: int, height: int | None) -> list[str]:
    """What a terminal of this width shows, without what a wider one would cut."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(run_view(record, rates_between(record, earlier_record()), "", height))
    return [line.rstrip() for line in console.export_text().splitlines()]


def earlier_record() -> dict[str, Any]:
    """The same ten seconds earlier."""
    sinks = (f"video:/srv/{'long/' * 20}o.mkv", "jsonl:o")
    supervisor = supervisor_of(f"/srv/{'long/' * 20}a.avi", sinks=sinks)
    set_cells(supervisor.board, dict.fromkeys(MILLIONS, 98_764_432))
    return record_at(supervisor, 1.0)


def test_no_line_wraps_at_80_columns_and_no_number_is_cut() -> None:
    narrow, wide = lines_at(slow_run(), 80, None), lines_at(slow_run(), 400, None)
    assert len(narrow) == len(wide)  # a line that wraps is two
    assert max(map(len, narrow)) <= 80
    assert cells_of("\n".join(narrow), "video delay")[-1] == "1"
    (delay,) = [line for line in narrow if line.startswith("video delay")]
    assert delay.split()[2:] == ["12.3s"] * 7 + ["1"] and "…" not in delay
    (infer,) = [line for line in narrow if line.startswith("infer ")]
    assert infer.startswith("infer      given up 4194304") and "…" not in infer
    (sink,) = [line for line in narrow if line.startswith("video:")]
    assert "98.77M" in sink and "12.3s" in sink


def test_a_terminal_of_24_lines_is_not_overrun_and_names_what_it_has_no_room_for() -> None:
    lines = lines_at(slow_run(), 80, 24)
    assert len(lines) <= 24
    assert lines[-1] == "A higher window shows more: Sinks, Links"
    record = slow_run()
    assert lines_at(record, 80, 60) == lines_at(record, 80, None)


def test_words_of_others_are_never_read_as_colours() -> None:
    text = text_of(record_at(supervisor_of("a[red]b.avi", sinks=("video:[bold]o.mkv",)), 1.0))
    assert "a[red]b.avi" in text and "video:[bold]o.mkv" in text


def test_a_run_that_is_over_says_so() -> None:
    assert (
        text_of(record_at(busy_run(), 1.0), ended="has ended").splitlines()[0].rstrip().endswith("has ended")
    )


def test_the_list_has_a_line_for_each_run() -> None:
    console = Console(width=140, file=io.StringIO(), record=True)
    records = [record_at(supervisor, 1.0) for supervisor in (busy_run(), supervisor_of("a.avi", "b.avi"))]
    console.print(list_view(records))
    lines = console.export_text().splitlines()
    assert "phantom:320x240" in lines[-2] and "1,245" in lines[-2]
    assert "a.avi and 1 more" in lines[-1]
