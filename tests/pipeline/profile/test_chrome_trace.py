"""The trace: well-formed, nothing overlaps on a thread, every begun delay ends, and the numbers are the log's."""

import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from endostream.pipeline.profile.chrome_trace import THREADS, run_events, write_trace

from .synthetic import BEGIN_NS, measured

Event = dict[str, Any]
STARTED_NS = BEGIN_NS - 2_000_000_000


def events_of(folder: Path, delays: list[float]) -> list[Event]:
    run = measured(folder, delays)
    rows = [*run.kept, *run.worst["video_delay"]]
    samples = [{"at_s": 0.5, "cpu_percent": 30.0}, {"at_s": 1.0, "cpu_percent": 40.0}]
    path = folder / "trace.json"
    write_trace(path, run_events(1, "a cell", rows, samples, STARTED_NS))
    trace = json.loads(path.read_text())
    assert trace["displayTimeUnit"] == "ms"
    events: list[Event] = trace["traceEvents"]
    return events


def test_every_event_has_what_its_kind_needs(tmp_path: Path) -> None:
    needed = {
        "M": {"name", "pid", "tid", "ts", "args"},
        "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
        "i": {"name", "cat", "pid", "tid", "ts", "s"},
        "b": {"name", "cat", "pid", "tid", "ts", "id"},
        "e": {"name", "cat", "pid", "tid", "ts", "id"},
        "C": {"name", "pid", "tid", "ts", "args"},
    }
    events = events_of(tmp_path, [2.0] * 30)
    assert {event["ph"] for event in events} == set(needed)
    for event in events:
        assert needed[event["ph"]] <= set(event), event
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0


def test_work_on_one_thread_never_overlaps(tmp_path: Path) -> None:
    by_thread: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events_of(tmp_path, [2.0 + seq % 7 for seq in range(60)]):
        if event["ph"] == "X":
            by_thread[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(by_thread) == 3
    for spans in by_thread.values():
        spans.sort()
        assert all(before[1] <= after[0] + 0.001 for before, after in itertools.pairwise(spans))


def test_every_delay_begins_and_ends_once(tmp_path: Path) -> None:
    pairs: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events_of(tmp_path, [2.0] * 30):
        if event["ph"] in "be":
            pairs[event["cat"], event["id"]].append(event)
    assert all([event["ph"] for event in pair] == ["b", "e"] for pair in pairs.values())
    assert Counter(name for name, _ in pairs) == {
        "video_delay": 30,
        "annotation_delay": 29,
        "release_lateness": 30,
    }
    assert all(
        pair[1]["ts"] - pair[0]["ts"] == 2000.0 for (name, _), pair in pairs.items() if name == "video_delay"
    )


def test_stages_are_named_and_work_lies_on_their_threads(tmp_path: Path) -> None:
    events = events_of(tmp_path, [2.0] * 3)
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names == dict(enumerate(THREADS, 1))
    work = {(names[event["tid"]], event["name"], event["dur"]) for event in events if event["ph"] == "X"}
    assert work == {
        ("overlay", "present", 1500.0),
        ("overlay", "mask made ready", 500.0),
        ("preprocess", "preprocess", 2000.0),
        ("infer", "infer", 4000.0),
    }


def test_the_machine_is_on_the_same_clock(tmp_path: Path) -> None:
    counters = [event for event in events_of(tmp_path, [2.0] * 3) if event["ph"] == "C"]
    assert [(event["ts"], event["args"]["value"]) for event in counters] == [(0.5e6, 30.0), (1.0e6, 40.0)]
