"""A day of frames through recorder and report: memory that does not grow, and a report that stays small."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from endostream.pipeline.frame import Presented
from endostream.pipeline.profile.measure import Window, measure_log
from endostream.pipeline.profile.report_page import profile_page
from endostream.pipeline.profile.result import write_profile

from .synthetic import PERIOD_NS, frame, profile_of, write_log

A_DAY = 2_600_000
"""Frames of a day and a bit at 30 frames/s."""
MIB = 1 << 20


def frames(count: int) -> Iterator[Presented]:
    """Delays that vary, with a slow frame now and then."""
    delays = np.random.default_rng(0).lognormal(0.7, 0.3, 1000) + 0.6
    for seq in range(count):
        yield frame(seq, float(delays[seq % 1000]) + (20.0 if seq % 9973 == 0 else 0.0))


def check_report(folder: Path, count: int) -> int:
    """Record so many frames and report on them; returns the most memory the reporting took, in bytes."""
    log = write_log(folder / "frames.csv", frames(count))
    tracemalloc.start()
    run = measure_log(log, Window(0.0, PERIOD_NS, True))
    profile = profile_of([run])
    text = profile_page(profile)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    write_profile(folder / "profile.json", profile)
    assert profile["cells"][0]["series"]["video_delay"]["n"] == run.counted.presented == count
    assert len(text.encode()) < 10_000_000
    assert (folder / "profile.json").stat().st_size < 10_000_000
    return peak


def test_a_hundred_thousand_frames_fit_into_a_report_of_less_than_a_megabyte(tmp_path: Path) -> None:
    check_report(tmp_path, 100_000)
    assert (tmp_path / "profile.json").stat().st_size < MIB


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_day_of_frames_costs_no_more_memory_than_an_hour_and_its_report_stays_under_ten_megabytes(
    tmp_path: Path,
) -> None:
    hour, day = check_report(tmp_path, 108_000), check_report(tmp_path, A_DAY)
    assert day < hour + 32 * MIB


def test_the_recorder_holds_no_frames(tmp_path: Path) -> None:
    made = frame(1)

    def same() -> Iterator[Presented]:
        for seq in range(60_000):
            if seq == 10_000:
                tracemalloc.start()
            yield replace(made, frame=replace(made.frame, key=made.frame.key._replace(seq=seq)))

    write_log(tmp_path / "o.csv", same())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB
