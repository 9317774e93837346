"""A folder of pictures plays in natural order at the rate it is given; what is no picture costs only itself."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.source import Source, SourceOptions, open_source
from endostream.replay.folder import FolderSource, natural_key

from .make_video import VideoSpec, make_video, number_of, numbered_picture
from .source_contract import SourceContract

SIZE = (48, 64)


def write(folder: Path, name: str, number: int, size_hw: tuple[int, int] = SIZE) -> None:
    assert cv2.imwrite(str(folder / name), numbered_picture(number, size_hw))


class TestFolderSource(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        for number in range(12):
            write(folder, f"{number}.png", number)
        return FolderSource(str(folder), options)


def play(folder: Path, options: SourceOptions | None = None) -> list[tuple[int, int, int]]:
    """(seq, pts, number) of the pictures."""
    played = []
    with FolderSource(str(folder), options) as source:
        for picture in source:
            image_bgr = np.zeros((*picture.size_hw, 3), np.uint8)
            picture.fill(image_bgr)
            played.append((picture.seq, picture.pts, number_of(image_bgr)))
    return played


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["f10.png", "f9.png", "F1.png", "f2b.png", "f2.png", "f02.png", "10.png", "9.png"]
    assert sorted(sorted(names), key=natural_key) == [
        "9.png", "10.png", "F1.png", "f02.png", "f2.png", "f2b.png", "f9.png", "f10.png",
    ]  # fmt: skip


def test_pictures_play_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        write(tmp_path, f"{number}.png", number)
    assert play(tmp_path) == [(0, 0, 1), (1, 1, 2), (2, 2, 9), (3, 3, 10)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "tif", "TIFF"])
def test_each_kind_of_picture_plays(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"a.{suffix}", 77)
    assert play(tmp_path) == [(0, 0, 77)]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_lossless_pictures_come_through_unchanged(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    cv2.imwrite(str(tmp_path / f"noise.{suffix}"), noise)
    with FolderSource(str(tmp_path)) as source:
        image_bgr = np.zeros_like(noise)
        next(iter(source)).fill(image_bgr)
    np.testing.assert_array_equal(image_bgr, noise)


@pytest.mark.parametrize(("fps", "exact"), [(25, Fraction(25)), ("30000/1001", Fraction(30000, 1001))])
def test_the_rate_is_a_setting(tmp_path: Path, fps: int | str, exact: Fraction) -> None:
    for number in range(3):
        write(tmp_path, f"{number}.png", number)
    with FolderSource(str(tmp_path), SourceOptions(extra={"folder_fps": fps})) as source:
        assert source.info.fps == exact
        assert [picture.pts * picture.time_base for picture in source] == [0, 1 / exact, 2 / exact]


def test_a_rate_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "0.png", 0)
    with pytest.raises(ConfigError, match="folder_fps: 0; expected"):
        FolderSource(str(tmp_path), SourceOptions(extra={"folder_fps": 0}))


def test_start_and_duration_choose_pictures_and_each_iteration_starts_again(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path, f"{number}.png", number)
    options = SourceOptions(start_s=0.12, duration_s=0.16)
    assert play(tmp_path, options) == [(0, 3, 3), (1, 4, 4), (2, 5, 5), (3, 6, 6)]
    with FolderSource(str(tmp_path), options) as source:
        assert [picture.pts for picture in source] == [picture.pts for picture in source] == [3, 4, 5, 6]


def test_a_start_behind_the_end_is_the_users_mistake(tmp_path: Path) -> None:
    write(tmp_path, "0.png", 0)
    with pytest.raises(ConfigError, match=r"start_s: 9; expected less than 0\.04"):
        FolderSource(str(tmp_path), SourceOptions(start_s=9))


def test_a_picture_that_cannot_be_read_is_a_counted_gap_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write(tmp_path, f"{number}.png", number)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:20])
    (tmp_path / "3.png").write_text("no picture")
    with FolderSource(str(tmp_path)) as source:
        assert [picture.seq for picture in source] == [0, 2, 4]
        assert source.faults == {"unreadable_picture": 2}
    assert capfd.readouterr().err == ""


def test_other_files_and_folders_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "0.png", 5)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._0.png").write_bytes(b"\0")
    (tmp_path / "sub.png").mkdir()
    assert play(tmp_path) == [(0, 0, 5)]


def test_a_picture_of_another_size_is_played_at_its_size(tmp_path: Path) -> None:
    write(tmp_path, "0.png", 0)
    write(tmp_path, "1.png", 1, (30, 40))
    with FolderSource(str(tmp_path)) as source:
        assert [picture.size_hw for picture in source] == [(48, 64), (30, 40)]
        assert source.faults == {"size_change": 1}


def test_an_empty_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no pictures in it, expected png, jpg, bmp or tif"):
        open_source(str(tmp_path))


def test_a_folder_of_videos_says_what_to_do(tmp_path: Path) -> None:
    make_video(tmp_path / "a.avi", VideoSpec(frames=1))
    with pytest.raises(SourceMissing, match=r"holds 1 video and no pictures. Try: .*a\.avi, or --catalogue"):
        open_source(str(tmp_path))


def test_a_folder_whose_pictures_lie_below_says_where(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write(tmp_path / "images", "1.png", 0)
    with pytest.raises(SourceMissing, match=r"no pictures in it.*Try: .*images"):
        open_source(str(tmp_path))


def test_a_folder_with_nothing_but_damage_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG")
    with pytest.raises(SourceMissing, match="none of its 1 pictures can be read"):
        FolderSource(str(tmp_path))


def test_a_folder_that_goes_away_is_a_lost_source(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        write(folder, f"{number}.png", number)
    with FolderSource(str(folder)) as source:
        pictures = iter(source)
        next(pictures)
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(SourceLost, match="the folder is gone"):
            next(pictures)


@pytest.mark.data
def test_a_real_sequence_plays_in_order_and_unchanged(data_dir: Path) -> None:
    folder = data_dir / "cvc-clinicdb-sequences" / "seq01" / "images"
    paths = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    with FolderSource(str(folder)) as source:
        assert source.info.size_hw == (288, 384)
        for path, picture in zip(paths, source, strict=True):
            image_bgr = np.zeros((288, 384, 3), np.uint8)
            picture.fill(image_bgr)
            np.testing.assert_array_equal(image_bgr, cv2.imread(str(path)))
