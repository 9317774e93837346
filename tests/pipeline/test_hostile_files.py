"""Whatever is wrong with what a run is given: one clear line, the right exit code, no hang, nothing left behind.

Mistakes that show before anything starts, files that are damaged or change while they are played, pictures of odd
sizes, and outputs that cannot be written. What can be played is played, and every frame of it accounted for.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from endostream.pipeline.frame import SizeHW

from ..replay.make_video import (
    VideoSpec,
    cut_off,
    flip_bytes,
    make_video,
    numbered_picture,
    with_broken_index,
    without_frames,
)
from .end_to_end import (
    FRAMES,
    Ended,
    Run,
    drop_privileges,
    play,
    sizes_of,
    small_video,
    times_of,
    with_small_disk,
)

MODES = {"live": ("--speed", "realtime"), "every-frame": ("--speed", "fastest")}
both_modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return small_video(tmp_path)


def stills(frames: int, size_hw: SizeHW = (120, 160)) -> VideoSpec:
    """Pictures that do not depend on one another and are of much the same weight."""
    options = {"qmin": "5", "qmax": "5"}
    return VideoSpec("mjpeg", "yuvj420p", size_hw, frames, options=options, texture=True)


def told(ended: Ended) -> str:
    """The one line it said."""
    (line,) = ended.stderr.splitlines()
    return line


def assert_played(ended: Ended, code: int, captured: int) -> None:
    """The run came to its end with ``code``, and every captured frame was shown or its loss counted."""
    frames = ended.report["frames"]
    assert (ended.code, frames["captured"], frames["ledger_closed"]) == (code, captured, True), ended.stderr
    assert ended.report["exit_code"] == code


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("missing.avi",), 3, "source: missing.avi; no such file or folder"),
        (("small.avi", "missing.avi"), 3, "source: missing.avi; no such file or folder"),
        ((), 2, "replay: nothing to play; expected SOURCE. Try: endostream replay --help"),
        (("small.avi", "--set", "overlay.hold=1"), 2, "Try: overlay.hold_ms"),
        (("small.avi", "--set", "overlay.hold_ms"), 2, "expected KEY=VALUE"),
        (("small.avi", "--set", "overlay.hold_ms=-1"), 2, "expected a number from 0 to 10000 ms"),
        (("small.avi", "--speed", "quick"), 2, "replay.speed: 'quick' (--speed); expected realtime, fastest"),
        (("small.avi", "--mode", "lively"), 2, "expected one of auto, live, every-frame"),
        (("small.avi", "--duration", "0"), 2, "expected a number above 0"),
        (("small.avi", "--loop", "-1"), 2, "expected a whole number from 0"),
        (("small.avi", "--segmenter", "unet"), 2, "segmenter: 'unet'; expected one of"),
        (("small.avi", "--nonsense"), 2, "No such option: --nonsense"),
        (("small.avi", "--config", "missing.yaml"), 2, "config: missing.yaml; cannot be read"),
        (("small.avi", "--sink", "vidio:o.mp4"), 2, "sink: 'vidio:o.mp4'; expected KIND[:PATH]"),
        (("small.avi", "--sink", "video:o.xyz"), 2, ".xyz ending; expected one of .mp4"),
        (("small.avi", "--sink", "png:p?each=2"), 2, "expected png:FOLDER?every=N"),
        (
            ("small.avi", "--sink", "video:small.avi"),
            2,
            "expected a place of its own, this is that of small.avi",
        ),
        (("small.avi", "--sink", "video:a.mp4", "--sink", "video:./a.mp4"), 2, "expected a place of its own"),
        (("small.avi", "--sink", "jsonl:r.json", "--report", "r.json"), 2, "expected a place of its own"),
        (("small.avi", "--sink", "video:no/o.mp4"), 1, "no folder no; expected one. Try: mkdir -p no"),
        (("small.avi", "--report", "no/r.json"), 1, "report: no/r.json; cannot be written"),
        (("small.avi", "--report", "/dev/null/r.json"), 1, "report: /dev/null/r.json; cannot be written"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    make_video(tmp_path / "small.avi", VideoSpec())
    before = {path.name for path in tmp_path.iterdir()}
    ended = play(tmp_path, *arguments, segmenter=None, log=False, report=False)
    assert (ended.code, ended.stdout) == (code, "")
    assert told(ended).startswith("endostream: ")
    assert says in told(ended)
    assert {path.name for path in tmp_path.iterdir()} - {".stdout", ".stderr"} == before


@pytest.mark.parametrize(
    ("segmenter", "options", "code", "says"),
    [
        ("no_such_package:Model", (), 4, "segmenter no_such_package:Model: cannot be loaded here"),
        ("fcm", ("--set", "infer.options.colour=red"), 2, "fcm setting: colour; expected one of"),
    ],
)
@both_modes
def test_a_segmenter_that_is_not_there_ends_the_run_before_its_first_frame(
    video: Path, tmp_path: Path, segmenter: str, options: tuple[str, ...], code: int, says: str, mode: str
) -> None:
    ended = play(tmp_path, video, *MODES[mode], *options, segmenter=segmenter)
    assert_played(ended, code, 0)
    assert says in told(ended)


def test_a_start_behind_the_end_is_told_with_the_length(video: Path, tmp_path: Path) -> None:
    ended = play(tmp_path, video, "--start", "100")
    assert_played(ended, 2, 0)
    assert "start_s: 100; expected less than 2 s, the length of" in told(ended)


# Files that are no video, or a damaged one


def empty(path: Path) -> Path:
    path.touch()
    return path


def text(path: Path) -> Path:
    path.write_text("This was a protocol of an examination, not its video.\n" * 100)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def unreadable(path: Path) -> Path:
    make_video(path, VideoSpec())
    path.chmod(0)
    return path


def header_only(path: Path) -> Path:
    return without_frames(make_video(path, VideoSpec()))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, "the file is empty (0 bytes)"),
        (text, "no video FFmpeg can read"),
        (folder, "no pictures in it, expected png, jpg, bmp or tif files"),
        (unreadable, "Permission denied"),
        (header_only, "no picture could be decoded, expected at least one"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_line(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    source = make(tmp_path / "source.avi")
    ended = play(tmp_path, source, under=drop_privileges())
    assert_played(ended, 3, 0)
    assert f"source: {source};" in told(ended)
    assert says in told(ended)
    assert ended.report["sources"][0]["status"] == "missing"


@both_modes
def test_of_several_sources_the_broken_one_is_said_and_the_others_play(
    video: Path, tmp_path: Path, mode: str
) -> None:
    ended = play(tmp_path, video, text(tmp_path / "text.avi"), video, *MODES[mode], "--duration", "1")
    assert_played(ended, 3, FRAMES)
    assert [source["status"] for source in ended.report["sources"]] == ["done", "missing", "done"]
    assert {key[0] for key in ended.keys} == {0, 2}
    assert "text.avi; no video FFmpeg can read" in told(ended)


def test_a_video_cut_off_in_the_middle_is_played_up_to_there_and_said_so(tmp_path: Path) -> None:
    video = make_video(tmp_path / "even.avi", stills(FRAMES))
    ended = play(tmp_path, cut_off(video, 0.5), "--speed", "fastest")
    captured = ended.report["frames"]["captured"]
    assert FRAMES / 2 - 3 <= captured <= FRAMES / 2 + 3
    assert_played(ended, 0, captured)
    assert "even_cut.avi; damaged, the rest was played: ends before its header says (1)" in told(ended)


def test_twenty_videos_with_flipped_bytes_are_all_played_as_far_as_they_can_be(
    video: Path, tmp_path: Path
) -> None:
    damaged = [flip_bytes(video, seed) for seed in range(20)]
    ended = play(tmp_path, *damaged, "--speed", "fastest")
    assert_played(ended, 0, ended.report["frames"]["captured"])
    assert ended.report["frames"]["dropped"] == {}
    assert min(source["presented"] for source in ended.report["sources"]) >= FRAMES // 4
    assert [source["status"] for source in ended.report["sources"]] == ["done"] * 20
    lines = ended.stderr.splitlines()
    assert all("damaged, the rest was played" in line for line in lines)
    assert len(lines) == len(set(lines)) == sum(1 for source in ended.report["sources"] if source["faults"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_video_with_flipped_bytes_is_played_live(video: Path, tmp_path: Path, seed: int) -> None:
    ended = play(tmp_path, flip_bytes(video, seed), "--speed", "2x")
    assert_played(ended, 0, ended.report["frames"]["captured"])
    assert ended.report["frames"]["presented"] >= FRAMES // 4


def test_a_broken_index_costs_nothing(video: Path, tmp_path: Path) -> None:
    ended = play(tmp_path, with_broken_index(video), "--speed", "fastest")
    assert_played(ended, 0, FRAMES)
    assert ended.stderr == ""


# Odd pictures


def pictures(into: Path, sizes_hw: list[tuple[int, int]]) -> Path:
    into.mkdir()
    for number, size_hw in enumerate(sizes_hw):
        cv2.imwrite(str(into / f"{number}.png"), numbered_picture(number, size_hw))
    return into


@both_modes
def test_a_folder_of_pictures_is_played_at_the_rate_that_was_set(tmp_path: Path, mode: str) -> None:
    source = pictures(tmp_path / "pictures", [(48, 64)] * 12)
    ended = play(tmp_path, source, *MODES[mode], "--set", "replay.folder_fps=30")
    assert_played(ended, 0, 12)
    assert [line["time_base"] for line in ended.log] == ["1/30"] * 12


@both_modes
def test_a_change_of_size_in_mid_stream_begins_a_new_file_and_loses_nothing(
    tmp_path: Path, mode: str
) -> None:
    sizes_hw = [(48, 64)] * 6 + [(96, 128)] * 6 + [(48, 64)] * 6
    source = pictures(tmp_path / "pictures", sizes_hw)
    ended = play(tmp_path, source, *MODES[mode], "--sink", f"video:{tmp_path / 'o.mp4'}")
    assert_played(ended, 0, 18)
    assert ended.report["frames"]["presented"] == 18
    if mode == "every-frame":
        names = ("o.mp4", "o.size2.mp4", "o.size3.mp4")
        assert [len(times_of(tmp_path / name)) for name in names] == [6, 6, 6]
        assert [sizes_of(tmp_path / name) for name in names] == [{(64, 48)}, {(128, 96)}, {(64, 48)}]


@both_modes
def test_pictures_of_which_no_two_have_the_same_size_are_all_shown(tmp_path: Path, mode: str) -> None:
    """As in the data sets of pictures: live, a size's memory was gone before its only picture was shown."""
    source = pictures(tmp_path / "pictures", [(48 + 2 * n, 64 + 4 * n) for n in range(20)])
    ended = play(tmp_path, source, *MODES[mode])
    assert_played(ended, 0, 20)
    assert ended.keys == [(0, 0, seq) for seq in range(20)]


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.avi"])
def test_pictures_that_fill_their_memory_to_the_last_byte_are_recorded(tmp_path: Path, name: str) -> None:
    """640 × 480 is 225 pages exactly. FFmpeg read on behind the last slot: record died, again and again."""
    video = make_video(tmp_path / "vga.avi", VideoSpec(size_hw=(480, 640), frames=40))
    ended = play(tmp_path, video, *MODES["every-frame"], "--sink", f"video:{tmp_path / name}")
    assert_played(ended, 0, 40)
    assert ended.stderr == ""
    assert len(times_of(tmp_path / name)) == 40


@both_modes
def test_the_smallest_picture_is_played(tmp_path: Path, mode: str) -> None:
    video = make_video(tmp_path / "tiny.avi", VideoSpec(size_hw=(16, 16)))
    ended = play(tmp_path, video, *MODES[mode], "--sink", f"video:{tmp_path / 'o.mp4'}")
    assert_played(ended, 0, 12)
    assert sizes_of(tmp_path / "o.mp4") == {(16, 16)}


@pytest.mark.parametrize("mode", [pytest.param("live", marks=pytest.mark.slow), "every-frame"])
def test_the_largest_picture_is_played(tmp_path: Path, mode: str) -> None:
    spec = VideoSpec("mjpeg", "yuvj420p", size_hw=(4320, 7680), frames=3)
    video = make_video(tmp_path / "huge.avi", spec)
    ended = play(tmp_path, video, *MODES[mode], "--sink", f"png:{tmp_path / 'p'}?every=3")
    assert_played(ended, 0, 3)
    if mode == "every-frame":
        assert cv2.imread(str(tmp_path / "p" / "source0_loop0_seq000000.png")).shape == (4320, 7680, 3)


# Sources that change while they are played


def test_a_file_that_is_removed_while_it_plays_is_played_to_its_end(video: Path, tmp_path: Path) -> None:
    with Run(tmp_path, video) as run:
        run.wait_for_frames(10)
        video.unlink()
        assert_played(run.end(), 0, FRAMES)


@both_modes
def test_a_file_that_is_gone_the_next_time_round_is_lost(video: Path, tmp_path: Path, mode: str) -> None:
    with Run(tmp_path, video, *MODES[mode], "--loop", "0") as run:
        run.wait_for_frames(10)
        video.unlink()
        ended = run.end()
    assert_played(ended, 3, ended.report["frames"]["captured"])
    assert ended.report["frames"]["captured"] % FRAMES == 0
    assert f"{video}" in told(ended)


@both_modes
def test_a_file_that_is_truncated_while_it_plays_is_played_up_to_there(tmp_path: Path, mode: str) -> None:
    video = make_video(tmp_path / "long.avi", stills(100, (480, 640)))
    with Run(tmp_path, video, "--mode", mode, "--speed", "realtime") as run:
        run.wait_for_frames(10)
        os.truncate(video, video.stat().st_size // 2)
        ended = run.end()
    captured = ended.report["frames"]["captured"]
    assert 40 <= captured <= 60
    assert_played(ended, 0, captured)
    assert "ends before its header says (1)" in told(ended)


def test_a_folder_that_is_removed_while_it_plays_is_lost(tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures", [(48, 64)] * 100)
    with Run(tmp_path, source) as run:
        run.wait_for_frames(10)
        shutil.rmtree(source)
        ended = run.end()
    assert_played(ended, 3, ended.report["frames"]["captured"])
    assert "the folder is gone" in told(ended)


# Outputs that cannot be written


@pytest.mark.parametrize("sink", ["video:{}/o.mp4", "jsonl:{}/o.jsonl", "png:{}/p"])
def test_a_folder_without_permission_is_told_before_anything_starts(
    video: Path, tmp_path: Path, sink: str
) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    ended = play(
        tmp_path, video, "--sink", sink.format(place), log=False, report=False, under=drop_privileges()
    )
    assert ended.code == 1
    assert f"endostream: sink {sink.format(place)}: cannot write" in told(ended)
    assert "Permission denied" in told(ended)


def test_a_report_without_permission_is_told_before_anything_starts(video: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    ended = play(tmp_path, video, "--report", place / "r.json", report=False, under=drop_privileges())
    assert ended.code == 1
    assert "r.json; cannot be written (Permission denied)" in told(ended)


@pytest.mark.parametrize("sink", ["video:{}/o.mkv", "jsonl:{}/x.jsonl", "png:{}/p"])
@both_modes
def test_a_disk_that_fills_up_costs_that_output_and_no_other(
    video: Path, tmp_path: Path, sink: str, mode: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    sink = sink.format(disk)
    size = "8k" if "jsonl" in sink else "160k"
    ended = play(tmp_path, video, *MODES[mode], "--sink", sink, under=with_small_disk(disk, size))
    assert_played(ended, 1, FRAMES)
    assert len(ended.log) == FRAMES
    totals = ended.report["sinks"][sink]
    assert 0 < totals["written"] < FRAMES
    assert totals["written"] + totals["dropped"] == FRAMES
    assert f"sink {sink}: " in told(ended)
    assert "free space" in told(ended)


def test_a_report_that_the_disk_has_no_room_for_fails_the_run(video: Path, tmp_path: Path) -> None:
    ended = play(tmp_path, video, "--speed", "fastest", "--report", "/dev/full", report=False)
    assert ended.code == 1
    assert told(ended) == "report: /dev/full; cannot be written (no space left on device). Try: another path"
    assert len(ended.log) == FRAMES
