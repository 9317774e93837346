"""Damaged streams into every source, and through the whole command: no crash, no hang, no growth, each accounted for.

The damage and the playing lie in ``tests/fuzz/``; ``python tests/fuzz_sources.py`` does the same at any length.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from ...fuzz.campaign import Campaign, run
from ...fuzz.corpus import KINDS, SIZE_HW, Sample, samples
from ...fuzz.end_to_end import replay_damaged_files, watch_damaged_datagrams, watch_damaged_pipes
from ...fuzz.mutation import MUTATIONS, mutated
from .live_rig import HERE, Emulator, LiveRun

WITHOUT_DEVICE = tuple(kind for kind in KINDS if kind != "v4l2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    return samples(tmp_path_factory.mktemp("samples"))


def sound(campaign: Campaign, streams: int) -> None:
    """Check what every campaign must show: one verdict a stream, and none of the bad ones."""
    assert campaign.failures() == []
    assert len(campaign.verdicts) == len({(v.kind, v.number) for v in campaign.verdicts}) == streams
    assert {v.outcome for v in campaign.verdicts} <= {"played", "SourceMissing", "SourceLost", "ConfigError"}
    assert all(v.answer["message"] for v in campaign.verdicts if v.outcome != "played")


def test_the_same_seed_is_the_same_damage_and_every_kind_of_damage_changes_something(
    made: dict[str, Sample],
) -> None:
    sample, seen = made["ts"], set()
    for seed in range(200):
        data, names = mutated(sample, seed)
        assert (data, names) == mutated(sample, seed)
        if data != sample.data:
            seen.update(names)
    assert seen == set(MUTATIONS)


def test_forty_two_damaged_streams_end_in_pictures_or_one_line(tmp_path: Path) -> None:
    sound(run(tmp_path, {}, 42, 11, 2, WITHOUT_DEVICE), 42)


def test_a_device_with_damaged_motion_jpeg_gives_sound_pictures_or_counts_them(tmp_path: Path) -> None:
    device = Emulator(tmp_path, f"MJPG:{SIZE_HW[1]}x{SIZE_HW[0]}@200")
    # How many pictures of the damaged clip a reader gets before it has enough depends on the machine: eight streams.
    campaign = run(tmp_path, device.environment, 8, 12, 1, ("v4l2",))
    sound(campaign, 8)
    assert sum(sum(v.answer["faults"].values()) for v in campaign.verdicts) > 0


def test_twelve_damaged_files_in_one_replay_are_each_accounted_for(
    tmp_path: Path, made: dict[str, Sample]
) -> None:
    report = replay_damaged_files(tmp_path, made, 12, 13)
    assert len(report["sources"]) == 12
    assert sum(sum(source["faults"].values()) for source in report["sources"]) > 0


def test_a_live_command_that_writes_nonsense_is_lost_each_time_and_sound_again_in_the_end(
    tmp_path: Path, made: dict[str, Sample]
) -> None:
    report = watch_damaged_pipes(tmp_path, made["y4m"], 5, 14)
    assert report["frames"]["captured"] > 10


def test_a_network_feed_of_damaged_streams_is_shown_again_once_it_is_sound(
    tmp_path: Path, made: dict[str, Sample]
) -> None:
    report = watch_damaged_datagrams(tmp_path, made["udp"], 5, 15)
    assert sum(report["sources"][0]["faults"].values()) > 0


def test_a_decoder_that_crashes_takes_the_capture_process_along_and_nothing_else(tmp_path: Path) -> None:
    """No stream was found that does this to FFmpeg; the signal is what it would be."""
    with LiveRun(tmp_path, f"pipe:{sys.executable} {HERE / 'pattern_sender.py'} y4m") as live:
        live.wait_for_pictures(10)
        gone = live.pid("capture")
        os.kill(gone, signal.SIGSEGV)
        live.wait_for(lambda: "capture: killed by SIGSEGV; starts again" in live.stderr, "the word of it")
        live.wait_for_pictures(10)
        live.interrupt()
        report = live.end()
    assert report["exit_code"] == 130
    assert {name for name, stage in report["stages"].items() if stage["restarts"]} == {"capture"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_damaged_streams_leave_every_source_as_it_was(
    tmp_path: Path, made: dict[str, Sample]
) -> None:
    device = Emulator(tmp_path, f"MJPG:{SIZE_HW[1]}x{SIZE_HW[0]}@200")
    sound(run(tmp_path, device.environment, 1000, 1, 2, KINDS), 1000)
    for name, number in (("files", 80), ("pipes", 20), ("datagrams", 20)):
        (tmp_path / name).mkdir()
        if name == "files":
            assert len(replay_damaged_files(tmp_path / name, made, number, 1)["sources"]) == number
        elif name == "pipes":
            watch_damaged_pipes(tmp_path / name, made["y4m"], number, 1)
        else:
            watch_damaged_datagrams(tmp_path / name, made["udp"], number, 1)
