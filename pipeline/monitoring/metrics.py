"""Where a running pipeline stands, as one plain record: what ``endostream top`` shows and Prometheus is told.

Separate from the report, which is made once of a run that has ended, and from those who serve it: this file only
reads the board and what the supervisor knows, from any thread, and writes nothing. It costs a few milliseconds and runs
in the supervisor's process, which no picture passes through.

The record (``SCHEMA`` 1); times are in the unit their name ends with, counts are since the start of the run::

    schema, at_utc, at_ns     when it was made: ISO 8601, monotonic
    run                       id, pid, version, mode, segmenter, runtime, presenting_sink, status (running, finishing,
                              ended), uptime_s
    frames                    captured, presented, annotated, synthetic, not_shown (presented while the window was
                              away or slow), dropped {cause: n}, held (prepared and not yet released),
                              longest_freeze_ms, since_presented_s (None before the first)
    masks                     computed, presented, superseded, discarded, state (of the newest frame), age_ms (None
                              without a mask), frames_by_state {state: n}
    delays                    video_delay, annotation_delay, release_lateness, present_interval: series
    stages {name}             state, pid, restarts, processed, errors, silent_s, busy_s, service, wait: series, and of
                              its process, None where there is none: resident_bytes, shared_bytes, cpu_s, threads,
                              open_files
    supervisor                the same five of the process that serves this
    links {name}              sent, acknowledged, in_flight, lost_with_stage, resent, refused, dropped {cause: n}
    sinks {label}             written, synthetic, dropped {cause: n}, failed (why, or ""), free_bytes (of its disk),
                              write_delay: series
    sources [..]              index, address, kind, size_hw, fps, codec, status, captured, presented, positive,
                              lost_at_source, faults {cause: n}
    rings [..]                role, id, size_hw, slots, bytes
    faults                    count, last [{at_s, where, what}, ..]

A series is a histogram as plain data (``series.py``).
"""

import os
import shutil
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..board import LINKS, Board
from ..frame import MaskState
from ..link import unaccounted
from ..sessions.session import SESSION_FILE
from ..sources.live_address import redacted
from ..supervision import StageState
from ..supervisor import Supervisor, Watched
from ..totals import VIDEO_LINK
from .series import series_of

SCHEMA = 1
LAST_FAULTS = 20
_WORKED_ON = {"capture": "capture.captured", "overlay": "overlay.presented"}
"""What counts the work of the stages that have no count of messages."""
_DELAYS = ("video_delay", "annotation_delay", "release_lateness", "present_interval")


def snapshot(supervisor: Supervisor) -> dict[str, Any]:
    """The record of this moment; may be called from any thread, before, during and after the run."""
    board, now_ns = supervisor.board, time.monotonic_ns()
    record = "record" in supervisor.stages
    return {
        "schema": SCHEMA,
        "at_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "at_ns": now_ns,
        "run": _run(supervisor, now_ns),
        "frames": _frames(board, now_ns),
        "masks": _masks(board),
        "delays": {name: series_of(board.histogram(name)) for name in _DELAYS},
        "stages": {name: _stage(board, stage, now_ns) for name, stage in supervisor.stages.items()},
        "supervisor": process_facts(os.getpid()),
        "links": {link: _link(board, link) for link in LINKS if record or not link.endswith("-record")},
        "sinks": _sinks(supervisor),
        "sources": [_source(supervisor, number) for number in range(len(supervisor.spec.sources))],
        "rings": [
            {
                "role": ring.role,
                "id": ring.shape.ring_id,
                "size_hw": list(ring.shape.size_hw),
                "slots": ring.shape.slots,
                "bytes": ring.shape.total_bytes,
            }
            for ring in supervisor.rings
        ],
        "faults": _faults(supervisor),
    }


def process_facts(pid: int) -> dict[str, Any]:
    """What the system says of a process, each None where there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, times = process.memory_info(), process.cpu_times()
            return {
                "resident_bytes": memory.rss,
                "shared_bytes": getattr(memory, "shared", None),
                "cpu_s": round(times.user + times.system, 2),
                "threads": process.num_threads(),
                "open_files": process.num_fds() if hasattr(process, "num_fds") else None,
            }
    except (psutil.Error, OSError):
        return dict.fromkeys(("resident_bytes", "shared_bytes", "cpu_s", "threads", "open_files"))


def _run(supervisor: Supervisor, now_ns: int) -> dict[str, Any]:
    outcome, spec = supervisor.outcome, supervisor.spec
    until_ns = outcome.ended_ns or now_ns
    return {
        "id": outcome.run_id,
        "pid": os.getpid(),
        "version": metadata.version("endostream"),
        "mode": spec.mode,
        "segmenter": supervisor.config.infer.segmenter,
        "runtime": outcome.runtime,
        "presenting_sink": spec.presenting,
        "status": supervisor.status,
        "uptime_s": round((until_ns - outcome.started_ns) / 1e9, 3),
    }


def _frames(board: Board, now_ns: int) -> dict[str, Any]:
    states, last_ns = board.group("overlay.state"), board.value("overlay.last_present_ns")
    return {
        "captured": board.value("capture.captured"),
        "presented": board.value("overlay.presented"),
        "annotated": sum(states[state.label] for state in MaskState if state.drawn),
        "synthetic": board.value("overlay.synthetic"),
        "not_shown": board.value("overlay.not_shown"),
        "dropped": {
            **board.group(f"{VIDEO_LINK}.dropped"),
            "lost_with_stage": board.value(f"{VIDEO_LINK}.lost_with_stage"),
        },
        "held": board.value("capture.held"),
        "longest_freeze_ms": round(board.value("overlay.longest_freeze_ns") / 1e6, 4),
        "since_presented_s": round((now_ns - last_ns) / 1e9, 4) if last_ns else None,
    }


def _masks(board: Board) -> dict[str, Any]:
    age_ns = board.value("overlay.mask_age_ns")
    presented = board.value("overlay.presented")
    return {
        "computed": board.value("infer.processed"),
        "presented": board.value("overlay.masks_presented"),
        "superseded": board.value("overlay.masks_superseded"),
        "discarded": board.value("overlay.masks_discarded"),
        "state": MaskState(board.value("overlay.mask_state")).label,
        "age_ms": round(age_ns / 1e6, 4) if presented and age_ns >= 0 else None,
        "frames_by_state": board.group("overlay.state"),
    }


def _stage(board: Board, stage: Watched, now_ns: int) -> dict[str, Any]:
    name, handle = stage.name, stage.handle
    beat_ns, busy_ns = board.value(f"{name}.heartbeat_ns"), board.value(f"{name}.busy_since_ns")
    return {
        "state": StageState(board.value(f"{name}.state")).name.lower(),
        "pid": None if handle is None else handle.pid,
        "restarts": board.value(f"{name}.restarts"),
        "processed": board.value(_WORKED_ON.get(name, f"{name}.processed")),
        "errors": board.value(f"{name}.errors"),
        "silent_s": round(max(0, now_ns - beat_ns) / 1e9, 3) if beat_ns else None,
        "busy_s": round(max(0, now_ns - busy_ns) / 1e9, 3) if busy_ns else 0.0,
        "service": series_of(board.histogram(f"{name}.service")),
        "wait": series_of(board.histogram(f"{name}.wait")),
        **process_facts(handle.pid if handle is not None else 0),
    }


def _link(board: Board, link: str) -> dict[str, Any]:
    return {
        "sent": board.value(f"{link}.sent"),
        "acknowledged": board.value(f"{link}.acknowledged"),
        "in_flight": max(0, unaccounted(board, link)),
        "lost_with_stage": board.value(f"{link}.lost_with_stage"),
        "resent": board.value(f"{link}.resent"),
        "refused": board.value(f"{link}.invalid_messages") + board.value(f"{link}.invalid_answers"),
        "dropped": board.group(f"{link}.dropped"),
    }


def _sinks(supervisor: Supervisor) -> dict[str, Any]:
    """The sinks, and the streams of the recorded session once that was begun."""
    spec = supervisor.spec
    sinks = {
        label: _sink(supervisor, number, label, label.partition(":")[2])
        for number, label in enumerate(spec.sinks)
    }
    if supervisor.outcome.recorded:
        file = f"{spec.session}/{SESSION_FILE}"
        streams = spec.session_sinks.items()
        sinks |= {f"record:{name}": _sink(supervisor, n, f"record:{name}", file) for name, n in streams}
    return sinks


def _sink(supervisor: Supervisor, number: int, label: str, path: str) -> dict[str, Any]:
    board = supervisor.board
    return {
        "written": board.value(f"sink{number}.written"),
        "synthetic": board.value(f"sink{number}.synthetic"),
        "dropped": board.group(f"sink{number}.dropped"),
        "failed": supervisor.outcome.failed_sinks.get(label, ""),
        "free_bytes": _free_bytes(path),
        "write_delay": series_of(board.histogram(f"sink{number}.write_delay")),
    }


def _free_bytes(path: str) -> int | None:
    """Room left where a sink writes, None where that cannot be told."""
    try:
        return shutil.disk_usage(Path(path).resolve().parent).free if path else None
    except OSError:
        return None


def _source(supervisor: Supervisor, number: int) -> dict[str, Any]:
    outcome, cells = supervisor.outcome.sources[number], supervisor.board.group(f"source{number}")
    info = outcome.info
    return {
        "index": number,
        "address": redacted(supervisor.spec.sources[number]),
        "kind": None if info is None else info.kind,
        "size_hw": None if info is None else list(info.size_hw),
        "fps": None if info is None or info.fps is None else round(float(info.fps), 6),
        "codec": None if info is None else info.codec,
        "status": outcome.status,
        "captured": cells["captured"],
        "presented": cells["presented"],
        "positive": cells["positive"],
        "lost_at_source": cells["gaps"],
        "faults": outcome.all_faults,
    }


def _faults(supervisor: Supervisor) -> dict[str, Any]:
    outcome = supervisor.outcome
    last = [
        {"at_s": round((at_ns - outcome.started_ns) / 1e9, 3), "where": where, "what": redacted(what)}
        for at_ns, where, what in outcome.events[-LAST_FAULTS:]
    ]
    return {"count": len(outcome.events), "last": last}
