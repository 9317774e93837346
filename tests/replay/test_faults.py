"""Faults put in on purpose do what a live set-up would do, are counted, and come again with the same seed."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from endostream.configs.schema import FaultSettings
from endostream.pipeline.frame import ImageBgr, SourcePicture
from endostream.pipeline.source import Source, SourceInfo, SourceOptions
from endostream.replay.avi import AviSource
from endostream.replay.faults import FaultEvent, FaultySource

from .make_video import VideoSpec, make_video
from .source_contract import SourceContract

SIZE = (8, 6)
RATE = Fraction(25)


class CountingSource:
    """Pictures filled with their number + 1, one every 40 ms."""

    def __init__(self, frames: int = 200, arrival_ns: int | None = None) -> None:
        self.info = SourceInfo("counting", "test", SIZE, RATE, 1 / RATE)
        self.faults = {"corrupt_packet": 3}
        self.closed = 0
        self._frames = frames
        self._arrival_ns = arrival_ns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        for number in range(self._frames):

            def fill(out_bgr: ImageBgr, number: int = number) -> None:
                out_bgr[...] = number + 1

            yield SourcePicture(number, number, 1 / RATE, SIZE, fill, self._arrival_ns)

    def close(self) -> None:
        self.closed += 1


class TestFaultySourceWithoutFaults(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        video = make_video(folder / "contract.avi", VideoSpec())
        return FaultySource(AviSource(str(video), options), FaultSettings())


def faulty(frames: int = 200, **settings: Any) -> FaultySource:
    return FaultySource(CountingSource(frames), FaultSettings(**settings))


def filled(source: FaultySource) -> list[tuple[int, np.ndarray]]:
    shown = []
    for picture in source:
        image_bgr = np.full((*SIZE, 3), 255, np.uint8)
        picture.fill(image_bgr)
        shown.append((picture.seq, image_bgr))
    return shown


def test_without_faults_nothing_is_changed() -> None:
    source = faulty()
    assert [(seq, image.min(), image.max()) for seq, image in filled(source)] == [
        (n, n + 1, n + 1) for n in range(200)
    ]
    assert source.faults == {"corrupt_packet": 3}
    assert list(source.log) == []


def test_lost_pictures_are_gaps_in_seq_at_their_probability() -> None:
    source = faulty(lose=0.2)
    seqs = [seq for seq, _ in filled(source)]
    lost = sorted(set(range(200)) - set(seqs))
    assert 25 <= len(lost) <= 55
    assert source.faults["simulated_lose"] == len(lost)
    assert list(source.log) == [FaultEvent(seq, "lose") for seq in lost]


def test_the_same_seed_gives_the_same_faults_and_each_loop_others() -> None:
    first, second = faulty(lose=0.2, seed=7), faulty(lose=0.2, seed=7)
    loops = [[seq for seq, _ in filled(first)] for _ in range(2)]
    assert loops == [[seq for seq, _ in filled(second)] for _ in range(2)]
    assert loops[0] != loops[1]
    assert loops[0] != [seq for seq, _ in filled(faulty(lose=0.2, seed=8))]


def test_a_seed_of_its_own_goes_before_the_settings() -> None:
    source = FaultySource(CountingSource(), FaultSettings(lose=0.2, seed=1), seed=7)
    assert source.info.seed == 7
    assert _log_of(source) == _log_of(faulty(lose=0.2, seed=7))


def test_one_fault_does_not_shift_another() -> None:
    lost = {event.seq for event in _log_of(faulty(lose=0.2))}
    with_black = {event.seq for event in _log_of(faulty(lose=0.2, black=0.3)) if event.kind == "lose"}
    assert lost == with_black


def _log_of(source: FaultySource) -> list[FaultEvent]:
    filled(source)
    return list(source.log)


def test_a_freeze_repeats_the_last_picture_at_new_times() -> None:
    source = faulty(freeze=0.05, freeze_frames=3)
    shown = filled(source)
    frozen = {event.seq for event in source.log}
    assert len(frozen) == source.faults["simulated_freeze"] >= 6
    assert [seq for seq, _ in shown] == list(range(200))
    expected = 0
    for seq, image in shown:
        expected = expected if seq in frozen else seq + 1
        assert (image == expected).all()


def test_a_freeze_lasts_as_long_as_set() -> None:
    source = faulty(frames=20, freeze=0.3, freeze_frames=10_000)
    shown = [int(image[0, 0, 0]) for _, image in filled(source)]
    start = min(event.seq for event in source.log)
    assert shown == [min(seq + 1, start) for seq in range(20)]


def test_black_pictures_are_black() -> None:
    source = faulty(black=0.3)
    black = {seq for seq, image in filled(source) if image.max() == 0}
    assert black == {event.seq for event in source.log}
    assert source.faults["simulated_black"] == len(black) > 0


def test_a_torn_picture_is_new_above_and_old_below() -> None:
    source = faulty(tear=0.3)
    torn = []
    for seq, image in filled(source):
        rows = image[:, 0, 0].astype(int)
        steps = np.flatnonzero(np.diff(rows))
        if len(steps):
            torn.append(seq)
            assert rows[0] == seq + 1
            assert rows[-1] < seq + 1
            assert (np.diff(rows) <= 0).all()
    assert set(torn) <= {event.seq for event in source.log}
    assert len(torn) > 20


def test_a_disconnect_is_a_gap_in_time_and_in_seq() -> None:
    source = faulty(disconnect=0.02, disconnect_s=0.4)
    seqs = [seq for seq, _ in filled(source)]
    gaps = [step for step in np.diff(seqs) if step > 1]
    assert gaps
    assert all(step >= 11 for step in gaps)  # ten pictures are 0.4 s
    lost = source.faults["simulated_disconnect"] + source.faults["simulated_away"]
    assert lost == 200 - len(seqs)


def test_a_source_disconnected_for_good_ends() -> None:
    source = faulty(disconnect=1, disconnect_s=3600)
    assert list(source) == []
    assert source.faults["simulated_disconnect"] == 1
    assert source.faults["simulated_away"] == 199


def test_jitter_is_late_never_early_and_bounded() -> None:
    source = faulty(jitter_ms=5)
    offsets = np.array([picture.release_offset_ns for picture in source]) / 1e6
    assert offsets.min() >= 0
    assert offsets.max() <= 15
    assert np.sqrt((offsets**2).mean()) == pytest.approx(5, rel=0.15)
    assert source.faults["simulated_jitter"] == 200


def test_a_live_source_is_not_made_later() -> None:
    source = FaultySource(CountingSource(arrival_ns=123), FaultSettings(jitter_ms=5))
    assert {picture.release_offset_ns for picture in source} == {0}
    assert "simulated_jitter" not in source.faults


def test_a_change_of_size_ends_what_could_be_repeated() -> None:
    source = faulty(frames=2, tear=1)
    first, second = iter(source), None
    next(first).fill(np.zeros((*SIZE, 3), np.uint8))
    second = next(first)
    wider = np.zeros((8, 12, 3), np.uint8)
    second.fill(wider)
    assert (wider == 2).all()


def test_the_seed_is_told_and_the_log_is_bounded() -> None:
    source = faulty(frames=1500, black=1, seed=42)
    list(source)
    assert source.info.seed == 42
    assert len(source.log) == 1000
    assert source.faults["simulated_black"] == 1500


def test_closing_it_closes_the_source() -> None:
    inner = CountingSource()
    with FaultySource(inner, FaultSettings()):
        pass
    assert inner.closed == 1
