"""The record of a run: every number on the board is found in it, and it can be made at any moment."""

import json
import os
from pathlib import Path

import pytest

from endostream.configs.schema import Config
from endostream.pipeline.board import LINKS
from endostream.pipeline.frame import Annotation, MaskState
from endostream.pipeline.host import RunSpec
from endostream.pipeline.launcher import ThreadLauncher
from endostream.pipeline.monitoring.metrics import LAST_FAULTS, process_facts, snapshot
from endostream.pipeline.supervision import StageState
from endostream.pipeline.supervisor import Supervisor
from endostream.pipeline.tally import PresentTally

from ..core_fixtures import header

SECRET = "rtsp://doctor:hunter2@10.0.0.9/tower"


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    """One that has not begun, with a source that has a password and a sink on a real disk."""
    config = Config()
    spec = RunSpec("", "live", config.model_dump(), (SECRET,), sinks=(f"video:{tmp_path / 'o.mkv'}",))
    return Supervisor(spec, config, ThreadLauncher("inproc://none/"), lambda *_: None)


def test_a_run_that_has_not_begun_has_a_record_of_noughts_and_unknowns(supervisor: Supervisor) -> None:
    record = snapshot(supervisor)
    assert record["schema"] == 1
    assert record["run"]["status"] == "running"
    assert record["frames"]["since_presented_s"] is None
    assert (record["masks"]["state"], record["masks"]["age_ms"]) == ("absent", None)
    assert {stage["state"] for stage in record["stages"].values()} == {"absent"}
    assert {stage["resident_bytes"] for stage in record["stages"].values()} == {None}
    assert record["supervisor"]["resident_bytes"] > 1_000_000
    assert record["rings"] == []
    json.dumps(record, allow_nan=False)


def test_every_counter_of_a_frames_way_is_found_in_the_record(supervisor: Supervisor) -> None:
    board = supervisor.board
    cells = {
        "capture.captured": 100,
        "source0.captured": 100,
        "source0.gaps": 4,
        "overlay.presented": 90,
        "overlay.synthetic": 3,
        "overlay.state.fresh": 80,
        "overlay.state.held": 5,
        "overlay.state.failed": 5,
        "capture-overlay.sent": 99,
        "capture-overlay.acknowledged": 90,
        "capture-overlay.dropped.superseded": 6,
        "capture-overlay.invalid_messages": 2,
        "infer.processed": 70,
        "infer.restarts": 2,
        "infer.state": StageState.DOWN,
        "sink0.written": 88,
        "sink0.dropped.sink_full": 2,
    }
    for name, value in cells.items():
        board.cell(name).value = value
    record = snapshot(supervisor)
    frames, link = record["frames"], record["links"]["capture-overlay"]
    assert (frames["captured"], frames["presented"], frames["annotated"]) == (100, 90, 85)
    assert (frames["synthetic"], frames["dropped"]["superseded"]) == (3, 6)
    assert (link["sent"], link["in_flight"], link["refused"]) == (99, 3, 2)
    assert record["masks"]["frames_by_state"] == {
        "absent": 0,
        "fresh": 80,
        "held": 5,
        "stale": 0,
        "failed": 5,
    }
    infer, (sink,), (source,) = record["stages"]["infer"], record["sinks"].values(), record["sources"]
    assert (infer["state"], infer["restarts"], infer["processed"]) == ("down", 2, 70)
    assert (sink["written"], sink["dropped"]["sink_full"], sink["failed"]) == (88, 2, "")
    assert sink["free_bytes"] > 0
    assert source["lost_at_source"] == 4


def test_mask_state_and_age_are_those_of_the_newest_frame(supervisor: Supervisor) -> None:
    tally = PresentTally(supervisor.board)
    tally.count(
        header(0), Annotation(MaskState.FRESH, mask_seq=0, mask_age_ns=40_000_000), 2_000_000_000, None
    )
    masks = snapshot(supervisor)["masks"]
    assert (masks["state"], masks["age_ms"]) == ("fresh", 40.0)
    tally.count(header(1), Annotation(MaskState.FAILED, cause="infer down"), 2_040_000_000, None)
    masks = snapshot(supervisor)["masks"]
    assert (masks["state"], masks["age_ms"]) == ("failed", None)


def test_delays_are_series_that_add_up(supervisor: Supervisor) -> None:
    for value_ns in (400, 400, 90):
        supervisor.board.histogram("video_delay").record(value_ns)
    delays = snapshot(supervisor)["delays"]
    assert delays["video_delay"] == {"n": 3, "sum_ns": 890, "max_ns": 400, "buckets": [[90, 1], [400, 2]]}
    assert delays["annotation_delay"]["n"] == 0


def test_faults_are_counted_and_the_last_ones_told_without_a_secret(supervisor: Supervisor) -> None:
    started_ns = supervisor.outcome.started_ns
    for number in range(LAST_FAULTS + 5):
        supervisor.outcome.events.append((started_ns + number * 10**9, "capture", f"{number} {SECRET}"))
    faults = snapshot(supervisor)["faults"]
    assert faults["count"] == LAST_FAULTS + 5
    assert len(faults["last"]) == LAST_FAULTS
    assert faults["last"][-1] == {
        "at_s": LAST_FAULTS + 4,
        "where": "capture",
        "what": f"{LAST_FAULTS + 4} rtsp://***@10.0.0.9/tower",
    }
    assert "hunter2" not in json.dumps(snapshot(supervisor))


def test_the_record_stage_and_its_link_are_told_only_where_there_is_one() -> None:
    config = Config()
    spec = RunSpec("", "live", config.model_dump(), ("a.avi",))
    bare = Supervisor(spec, config, ThreadLauncher("inproc://none/"), lambda *_: None)
    record = snapshot(bare)
    assert "record" not in record["stages"]
    assert list(record["links"]) == [link for link in LINKS if not link.endswith("-record")]


def test_a_process_that_is_gone_has_no_facts() -> None:
    assert set(process_facts(0).values()) == {None}
    facts = process_facts(os.getpid())
    assert facts["threads"] >= 1
    assert facts["open_files"] >= 1
