"""A trace for ui.perfetto.dev or chrome://tracing: what each stage did when, frame by frame, in their JSON format.

One process a run, one thread a stage, complete events ("X") for work, which never overlap on a thread, instants ("i")
for releases; asynchronous events ("b", "e") for lateness and the two delays of a frame; counters ("C") for the machine.
It holds the first rows of each run's window and its worst frames: a trace is for looking at, the frame log has them
all. Times are microseconds since the run's command was started, so none is negative and runs lie above each other.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from endostream.configs.errors import SinkError

from .machine_watch import Sample
from .measure import Row

Event = dict[str, Any]
THREADS = ("capture", "preprocess", "infer", "overlay")
_WORK = (("overlay", "present", "overlay_received_ns", "overlay_done_ns"),)
_MASK_WORK = (
    ("preprocess", "preprocess", "preprocess_received_ns", "preprocess_done_ns"),
    ("infer", "infer", "infer_received_ns", "infer_done_ns"),
    ("overlay", "mask made ready", "mask_received_ns", "mask_ready_ns"),
)
_ARGUMENTS = ("source", "loop", "seq", "pts", "state", "mask_seq", "boxes", "area_px", "cause")


def run_events(
    number: int,
    name: str,
    rows: Iterable[Row],
    samples: Iterable[Sample],
    zero_ns: int,
) -> Iterator[Event]:
    """All events of one run; ``number`` is its process in the trace, ``zero_ns`` when its command was started."""
    yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "ts": 0, "args": {"name": name}}
    for thread, stage in enumerate(THREADS, 1):
        named = {"name": "thread_name", "pid": number, "tid": thread, "args": {"name": stage}}
        yield {"ph": "M", "ts": 0, **named}
    for row in _each_once(rows):
        yield from _row_events(number, row, zero_ns)
    for sample in samples:
        at_us = sample["at_s"] * 1e6
        for key, value in sample.items():
            if key != "at_s":
                yield {"ph": "C", "name": key, "pid": number, "tid": 0, "ts": at_us, "args": {"value": value}}


def _each_once(rows: Iterable[Row]) -> Iterator[Row]:
    """The worst frames may be among the first ones."""
    seen = set()
    for row in rows:
        key = (row["event"], row["source"], row["loop"], row["seq"], row["present_ns"])
        if key not in seen:
            seen.add(key)
            yield row


def _row_events(number: int, row: Row, zero_ns: int) -> Iterator[Event]:
    if row["event"] != "presented":
        return
    arguments = {name: row[name] for name in _ARGUMENTS if row[name] not in (None, "")}
    for stage, name, begin, end in (*_WORK, *(_MASK_WORK if row["first_shown"] == 1 else ())):
        yield from _work(number, stage, name, row[begin], row[end], zero_ns, arguments)
    yield _release(number, row, zero_ns)
    yield from _delay(number, "release_lateness", row, "due_ns", "capture_ns", zero_ns)
    yield from _delay(number, "video_delay", row, "capture_ns", "present_ns", zero_ns)
    if row["first_shown"] == 1:
        yield from _delay(number, "annotation_delay", row, "mask_capture_ns", "present_ns", zero_ns)


def _release(number: int, row: Row, zero_ns: int) -> Event:
    at_us = (int(row["capture_ns"] or 0) - zero_ns) / 1e3
    where = {"pid": number, "tid": THREADS.index("capture") + 1}
    return {
        "ph": "i",
        "s": "t",
        "name": "released",
        "cat": "capture",
        **where,
        "ts": at_us,
        "args": {"seq": row["seq"]},
    }


def _work(
    number: int, stage: str, name: str, begin: Any, end: Any, zero_ns: int, arguments: dict[str, Any]
) -> Iterator[Event]:
    if begin is None or end is None:
        return
    yield {
        "ph": "X",
        "name": name,
        "cat": stage,
        "pid": number,
        "tid": THREADS.index(stage) + 1,
        "ts": (begin - zero_ns) / 1e3,
        "dur": (end - begin) / 1e3,
        "args": arguments,
    }


def _delay(number: int, name: str, row: Row, begin: str, end: str, zero_ns: int) -> Iterator[Event]:
    """From one stamp to another, as a pair of asynchronous events of one id."""
    begin_ns, end_ns = row[begin], row[end]
    if not isinstance(begin_ns, int) or not isinstance(end_ns, int):
        return
    one = {
        "name": name,
        "cat": name,
        "pid": number,
        "tid": 0,
        "id": f"{number}.{row['loop']}.{row['seq']}.{name}",
    }
    yield {**one, "ph": "b", "ts": (begin_ns - zero_ns) / 1e3, "args": {"seq": row["seq"]}}
    yield {**one, "ph": "e", "ts": (end_ns - zero_ns) / 1e3}


def write_trace(path: Path, events: Iterable[Event]) -> None:
    """Write the trace; raises SinkError."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
            for number, event in enumerate(events):
                file.write(("" if number == 0 else ",\n") + json.dumps(event, separators=(",", ":")))
            file.write("\n]}\n")
    except OSError as error:
        raise SinkError(f"trace: {path}; cannot be written ({error.strerror}). Try: --out DIR") from error
