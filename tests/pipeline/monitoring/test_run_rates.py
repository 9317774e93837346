"""What two records say of the time between them, against numbers worked out by hand."""

import json

from endostream.pipeline.monitoring.run_rates import rates_between, summary_ms

from .run_records import record_at, set_cells, supervisor_of

STAGE = {"pid": 7, "cpu_s": 1.0}


def test_rates_are_per_second_of_the_time_between_the_records() -> None:
    supervisor = supervisor_of(sinks=("jsonl:o.jsonl",))
    set_cells(supervisor.board, {"overlay.presented": 100, "capture.captured": 110, "infer.processed": 50})
    older = record_at(supervisor, 10.0)
    set_cells(supervisor.board, {"overlay.presented": 150, "capture.captured": 160, "infer.processed": 70})
    set_cells(supervisor.board, {"capture-overlay.sent": 50, "capture-overlay.dropped.superseded": 4})
    set_cells(supervisor.board, {"sink0.written": 6, "sink0.dropped.sink_full": 3})
    rates = rates_between(record_at(supervisor, 12.0), older)
    assert (rates["seconds"], rates["captured_fps"], rates["presented_fps"], rates["masks_per_s"]) == (
        2,
        25,
        25,
        10,
    )
    assert rates["links"]["capture-overlay"] == {"sent_per_s": 25, "dropped_per_s": 2}
    assert (
        rates["sinks"]["jsonl:o.jsonl"]["written_per_s"],
        rates["sinks"]["jsonl:o.jsonl"]["dropped_per_s"],
    ) == (3, 1.5)
    json.dumps(rates, allow_nan=False)


def test_delays_are_those_of_the_time_between_alone() -> None:
    supervisor = supervisor_of()
    delays = supervisor.board.histogram("video_delay")
    for _ in range(1000):
        delays.record(90_000_000)
    older = record_at(supervisor, 1.0)
    for delay_ns in (1_000_000, 2_000_000, 3_000_000):
        delays.record(delay_ns)
    recent = rates_between(record_at(supervisor, 2.0), older)["delays"]["video_delay"]
    assert recent["n"] == 3
    assert abs(recent["p50"] - 2) < 0.01 and abs(recent["max"] - 3) < 0.02
    assert summary_ms(record_at(supervisor, 2.0)["delays"]["video_delay"])["max"] == 90.0


def test_without_a_measurement_a_delay_is_unknown_and_not_nought() -> None:
    record = record_at(supervisor_of(), 1.0)
    none = dict.fromkeys(("p50", "p90", "p99", "p99_9", "max"))
    assert rates_between(record, record)["delays"]["annotation_delay"] == {"n": 0, **none}


def test_load_is_of_one_core_and_unknown_over_a_restart() -> None:
    supervisor = supervisor_of()
    older = record_at(supervisor, 5.0, infer=STAGE, capture=STAGE, overlay=STAGE)
    newer = record_at(
        supervisor,
        7.0,
        infer={"pid": 7, "cpu_s": 4.0},
        capture={"pid": 8, "cpu_s": 0.1},
        overlay={"pid": None},
    )
    load = {name: stage["cpu_percent"] for name, stage in rates_between(newer, older)["stages"].items()}
    assert (load["infer"], load["capture"], load["overlay"]) == (150.0, None, None)


def test_a_sink_that_was_not_there_before_counts_from_nought() -> None:
    supervisor = supervisor_of(sinks=("jsonl:o.jsonl",))
    set_cells(supervisor.board, {"sink0.written": 10})
    newer = record_at(supervisor, 2.0)
    older = {**record_at(supervisor, 1.0), "sinks": {}}
    assert rates_between(newer, older)["sinks"]["jsonl:o.jsonl"]["written_per_s"] == 10
