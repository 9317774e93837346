"""Frame logs and profiles made by hand: known delays in, so that tests know what has to come out. It holds no test."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from endostream.pipeline.frame import Annotation, Frame, FrameKey, Lost, MaskState, Presented, Stamp
from endostream.pipeline.profile.measure import Measured, Window, measure_log
from endostream.pipeline.profile.result import KIND, SCHEMA, RunResult, cell_json
from endostream.pipeline.sink import SinkContext, parse_sink
from endostream.pipeline.sinks.trace_sink import TraceSink

PERIOD_NS = 40_000_000
BEGIN_NS = 10_000_000_000
MS = 1_000_000
NO_PIXELS = np.empty((0, 0, 3), np.uint8)
PACED = Window(0.0, PERIOD_NS, True)


def frame(
    seq: int, video_ms: float = 2.0, mask: bool = True, late_ms: float = 0.5, lost: tuple[Lost, ...] = ()
) -> Presented:
    """Frame ``seq`` of 25 a second, shown ``video_ms`` after capture, first to carry the mask of the one before.

    That mask waited 1 ms for preprocess, which took 2; waited 3 ms for infer, which took 4; waited 1 ms for overlay,
    which took 0.5.
    """
    due_ns = BEGIN_NS + seq * PERIOD_NS
    capture_ns = due_ns + int(late_ms * MS)
    present_ns = capture_ns + int(video_ms * MS)
    stamps = (Stamp("capture", due_ns, capture_ns), Stamp("overlay", capture_ns + MS // 2, present_ns))
    record = Frame(FrameKey(0, 0, seq), seq, Fraction(1, 25), capture_ns, NO_PIXELS, stamps)
    if not mask or seq == 0:
        return Presented(record, Annotation(), present_ns, lost=lost)
    then_ns = capture_ns - PERIOD_NS
    way = (
        Stamp("capture", then_ns - MS, then_ns),
        Stamp("preprocess", then_ns + MS, then_ns + 3 * MS),
        Stamp("infer", then_ns + 6 * MS, then_ns + 10 * MS),
        Stamp("overlay", then_ns + 11 * MS, then_ns + 11 * MS + MS // 2),
    )
    note = Annotation(MaskState.FRESH, seq - 1, PERIOD_NS, (), 0, 1)
    return Presented(record, note, present_ns, present_ns - then_ns, mask_stamps=way, lost=lost)


def write_log(path: Path, frames: Iterator[Presented] | Sequence[Presented]) -> Path:
    """Write frames as ``--sink trace:`` does."""
    with TraceSink(parse_sink(f"trace:{path}"), SinkContext()) as sink:
        for one in frames:
            sink.write(one)
    return path


def measured(
    folder: Path, video_ms: Sequence[float], window: Window = PACED, name: str = "o.csv"
) -> Measured:
    """A run whose frames had these delays."""
    return measure_log(write_log(folder / name, [frame(seq, ms) for seq, ms in enumerate(video_ms)]), window)


def profile_of(runs: Sequence[Measured], name: str = "phantom:, fcm", **environment: Any) -> dict[str, Any]:
    """A profile of one cell with these runs."""
    results = [
        RunResult(
            run, {"repeat": number, "command": ["endostream", "replay", "x"], "exit_code": 0, "errors": ""}
        )
        for number, run in enumerate(runs, 1)
    ]
    machine = {
        "cpu": "a processor",
        "cores": 2,
        "gpu": None,
        "versions": {"python": "3.11"},
        "commit": "c0ffee",
    }
    settings = {"source": "phantom:", "segmenter": "fcm", "pace": "live", "launcher": "processes"}
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "created_utc": "2026-11-21T00:00:00+00:00",
        "command": ["endostream", "profile", "phantom:"],
        "options": {
            "warm_up_s": 0.0,
            "first_frames": True,
            "duration_s": 4.0,
            "repeats": len(runs),
            "options": [],
        },
        "environment": machine | environment,
        "words": {"measured": ["this"], "not_measured": ["that"]},
        "cells": [cell_json(name, settings, results)],
        "budgets": [],
    }
