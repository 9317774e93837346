"""A recording through the whole command: every frame, its own mask, the source's times, twice the same; and in time.

The first test runs the command of the README on a real colonoscopy, the others play what they make themselves.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from .end_to_end import FRAMES, Ended, play, sizes_of, small_video, times_of

POLYP_CLIP = Path("videos") / "colonoscopy_polyp_560x480_25fps.avi"
PHANTOM = ("--set", "phantom.width=320", "--set", "phantom.height=256", "--set", "phantom.duration_s=2")


def assert_every_frame_has_its_mask(ended: Ended, count: int) -> None:
    frames = ended.report["frames"]
    assert (ended.code, ended.stderr) == (0, "")
    assert (frames["captured"], frames["presented"], frames["annotated"]) == (count, count, count)
    assert (frames["dropped"], frames["in_flight"], frames["ledger_closed"]) == ({}, 0, True)
    assert [line["seq"] for line in ended.log] == list(range(count))
    assert all(line["mask_seq"] == line["seq"] for line in ended.log)
    assert ended.states == ["fresh"]


def masks_of(ended: Ended) -> list[Any]:
    return [(line["pts"], line["mask_crc32"], line["boxes"], line["area_px"]) for line in ended.log]


@pytest.mark.data
def test_a_real_colonoscopy_is_played_frame_by_frame_at_its_own_times_and_twice_the_same(
    data_dir: Path, tmp_path: Path
) -> None:
    runs = []
    for name in ("first", "second"):
        (folder := tmp_path / name).mkdir()
        video = ("--sink", f"video:{folder / 'o.mp4'}")
        runs.append(play(folder, data_dir / POLYP_CLIP, "--speed", "fastest", *video, segmenter="fcm"))
        assert_every_frame_has_its_mask(runs[-1], 181)
        assert times_of(folder / "o.mp4") == [Fraction(n, 25) for n in range(181)]
        assert sizes_of(folder / "o.mp4") == {(560, 480)}
    assert masks_of(runs[0]) == masks_of(runs[1])
    assert len({line["mask_crc32"] for line in runs[0].log}) > 150


@pytest.mark.data
def test_a_real_colonoscopy_takes_its_own_time_and_every_frame_is_shown(
    data_dir: Path, tmp_path: Path
) -> None:
    ended = play(tmp_path, data_dir / POLYP_CLIP, segmenter="fcm")
    frames = ended.report["frames"]
    assert (ended.code, frames["captured"], frames["presented"], frames["dropped"]) == (0, 181, 181, {})
    assert ended.report["duration_s"] == pytest.approx(7.24, rel=0.03)
    assert [line["seq"] for line in ended.log] == list(range(181))


def test_the_phantom_is_played_frame_by_frame_and_twice_the_same(tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        (folder := tmp_path / name).mkdir()
        options = (*PHANTOM, "--speed", "fastest", "--sink", f"video:{folder / 'o.mkv'}")
        runs.append(play(folder, "phantom:", *options, segmenter="fcm"))
        assert_every_frame_has_its_mask(runs[-1], FRAMES)
        assert times_of(folder / "o.mkv") == [Fraction(n, 25) for n in range(FRAMES)]
        assert sizes_of(folder / "o.mkv") == {(320, 256)}
    assert masks_of(runs[0]) == masks_of(runs[1])


def test_in_real_time_the_phantom_takes_two_seconds_and_every_frame_is_shown(tmp_path: Path) -> None:
    ended = play(tmp_path, "phantom:", *PHANTOM, segmenter="fcm")
    frames = ended.report["frames"]
    assert (ended.code, frames["captured"], frames["presented"], frames["dropped"]) == (0, FRAMES, FRAMES, {})
    assert ended.report["duration_s"] == pytest.approx(2.0, abs=0.1)
    assert [line["seq"] for line in ended.log] == list(range(FRAMES))


def test_a_loop_counts_every_time_round(tmp_path: Path) -> None:
    ended = play(tmp_path, small_video(tmp_path), "--loop", "3", "--speed", "fastest")
    assert ended.code == 0
    assert ended.keys == [(0, loop, seq) for loop in range(3) for seq in range(FRAMES)]


def test_several_sources_are_played_one_after_another(tmp_path: Path) -> None:
    small = small_video(tmp_path)
    ended = play(tmp_path, small, "phantom:", small, *PHANTOM, "--speed", "fastest")
    assert ended.code == 0
    assert ended.keys == [(source, 0, seq) for source in range(3) for seq in range(FRAMES)]
    assert [source["presented"] for source in ended.report["sources"]] == [FRAMES, FRAMES, FRAMES]


@pytest.mark.parametrize(
    ("options", "mode", "lasts_s"),
    [
        (("--speed", "0.5x"), "live", 4.0),
        (("--speed", "2x"), "live", 1.0),
        (("--mode", "every-frame", "--speed", "realtime"), "every-frame", 2.0),
        (("--start", "1"), "live", 1.0),
        (("--duration", "0.5", "--speed", "0.5x"), "live", 1.0),
    ],
)
def test_speed_and_part_decide_how_long_it_takes(
    tmp_path: Path, options: tuple[str, ...], mode: str, lasts_s: float
) -> None:
    ended = play(tmp_path, small_video(tmp_path), *options)
    frames = ended.report["frames"]
    assert (ended.code, ended.report["mode"], frames["dropped"]) == (0, mode, {})
    assert frames["presented"] == frames["captured"]
    assert ended.report["duration_s"] == pytest.approx(lasts_s, abs=0.15)


def test_live_at_full_speed_captures_all_shows_what_it_can_and_counts_the_rest(tmp_path: Path) -> None:
    ended = play(tmp_path, small_video(tmp_path), "--mode", "live", "--speed", "fastest")
    frames = ended.report["frames"]
    assert (ended.code, ended.report["mode"], frames["captured"]) == (0, "live", FRAMES)
    assert frames["presented"] + sum(frames["dropped"].values()) == FRAMES
    assert frames["ledger_closed"] is True
