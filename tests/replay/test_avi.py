"""Playing a video file: from where to where, at what times, again and again, and what happens on the way."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SourceLost
from endostream.pipeline.frame import SourcePicture
from endostream.pipeline.source import Source, SourceOptions, open_source
from endostream.replay.avi import AviSource
from endostream.replay.container import OpenVideo
from endostream.replay.reader import PictureReader

from .make_video import VideoSpec, make_video, number_of
from .source_contract import SourceContract


class TestAviSource(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        return AviSource(str(make_video(folder / "contract.avi", VideoSpec(size_hw=(47, 64)))), options)


class TestAviSourceDeinterlacing(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        spec = VideoSpec("libx264", options={"x264-params": "tff=1"})
        auto = replace(options, extra={"deinterlace": "auto", "decode_threads": 2})
        return AviSource(str(make_video(folder / "contract.mkv", spec)), auto)


def image_of(picture: SourcePicture) -> np.ndarray:
    image_bgr = np.zeros((*picture.size_hw, 3), np.uint8)
    picture.fill(image_bgr)
    return image_bgr


def numbers_of(source: AviSource) -> list[int]:
    return [number_of(image_of(picture)) for picture in source]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "video.avi", VideoSpec(frames=50, options={"g": "10"}))


def test_a_path_is_opened_as_a_file(video: Path) -> None:
    with open_source(str(video)) as source:
        assert source.info.kind == "file"
        assert source.info.address == str(video)
        assert (source.info.codec, source.info.pixel_format) == ("mpeg4", "yuv420p")
        assert (source.info.frame_count, source.info.duration_s) == (50, 2.0)


def test_iterating_again_plays_from_the_start_again(video: Path) -> None:
    with AviSource(str(video), SourceOptions(start_s=1.0, duration_s=0.2)) as source:
        assert numbers_of(source) == [25, 26, 27, 28, 29]
        assert numbers_of(source) == [25, 26, 27, 28, 29]


def test_a_new_iteration_ends_the_one_before(video: Path) -> None:
    with AviSource(str(video)) as source:
        first = iter(source)
        next(first)
        assert next(iter(source)).seq == 0
        assert list(first) == []


def test_close_ends_the_iteration_and_may_be_called_twice(video: Path) -> None:
    source = AviSource(str(video))
    pictures = iter(source)
    next(pictures)
    source.close()
    source.close()
    assert list(pictures) == []


@pytest.mark.parametrize("start_s", [2.5, 100.0])
def test_a_start_behind_the_end_is_the_users_mistake(video: Path, start_s: float) -> None:
    with pytest.raises(ConfigError, match=r"start_s: .*; expected less than 2"):
        list(AviSource(str(video), SourceOptions(start_s=start_s)))


def test_a_duration_past_the_end_plays_to_the_end(video: Path) -> None:
    with AviSource(str(video), SourceOptions(start_s=1.8, duration_s=60)) as source:
        assert numbers_of(source) == [45, 46, 47, 48, 49]
        assert source.faults == {}


def test_a_variable_frame_rate_stays_one(tmp_path: Path) -> None:
    times = [0, 40, 120, 130, 500, 3000]
    path = make_video(tmp_path / "vfr.mkv", VideoSpec("ffv1", frames=6, times=times))
    with AviSource(str(path)) as source:
        assert [picture.pts * picture.time_base * 1000 for picture in source] == times
        assert source.faults == {}


def test_a_start_at_a_time_that_the_container_rounded_means_that_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "30.mkv", VideoSpec("ffv1", frames=15, fps=30))
    with AviSource(str(path), SourceOptions(start_s=10 / 30, duration_s=1 / 30)) as source:
        assert numbers_of(source) == [10]


def test_a_broadcast_rate_is_kept_exactly(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    with AviSource(str(make_video(tmp_path / "ntsc.avi", VideoSpec(fps=rate)))) as source:
        assert source.info.fps == rate
        assert [picture.pts * picture.time_base for picture in source] == [n / rate for n in range(12)]


def test_a_stream_without_times_is_played_by_its_rate_and_says_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "raw.h264", VideoSpec("libx264", container="h264"))
    with AviSource(str(path)) as source:
        assert "pts" in source.info.assumed
        assert [picture.time_s for picture in source] == pytest.approx([0.04 * n for n in range(12)])
        assert source.faults == {"missing_pts": 12}


def test_two_streams_in_a_row_of_different_size_play_on_without_a_hole(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.ts", VideoSpec("libx264"))
    large = make_video(tmp_path / "large.ts", VideoSpec("libx264", size_hw=(96, 128), first_number=100))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    with AviSource(str(joined)) as source:
        seen = [(picture.size_hw, number_of(image_of(picture)), picture.time_s) for picture in source]
        assert source.faults == {"size_change": 1, "backward_pts": 2}
    assert [(size, number) for size, number, _ in seen] == [((48, 64), n) for n in range(12)] + [
        ((96, 128), 100 + n) for n in range(12)
    ]
    assert np.diff([time_s for _, _, time_s in seen]) == pytest.approx([0.04] * 23)


def test_a_file_deleted_while_it_plays_is_played_to_its_end(video: Path) -> None:
    with AviSource(str(video)) as source:
        pictures = iter(source)
        next(pictures)
        video.unlink()
        assert len(list(pictures)) == 49
        with pytest.raises(SourceLost, match="there when the replay began"):
            next(iter(source))


def test_a_file_truncated_while_it_plays_ends_early_and_is_counted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.avi", VideoSpec("rawvideo", "bgr24", frames=50))
    with AviSource(str(path)) as source:
        pictures = iter(source)
        next(pictures)
        os.truncate(path, path.stat().st_size // 2)
        played = 1 + len(list(pictures))
        assert 20 <= played <= 30
        assert source.faults["ended_early"] == 1


def test_a_disk_that_fails_ends_the_replay_as_a_lost_source() -> None:
    def demux(stream: object) -> Iterator[object]:
        raise OSError(5, "Input/output error")
        yield

    video = SimpleNamespace(container=SimpleNamespace(name="file:video.avi", demux=demux), stream=None)
    with pytest.raises(
        SourceLost, match=r"source: video.avi; cannot be read any more \(Input/output error\)"
    ):
        list(PictureReader(cast("OpenVideo", video), Counter()).pictures())


@pytest.mark.data
def test_times_of_packed_b_frames_in_a_real_avi_are_put_in_order(data_dir: Path) -> None:
    """An old DivX encoder packed two frames in one packet: FFmpeg numbers its pictures 1, 3, 2, 5, 4, …"""
    with AviSource(str(data_dir / "videos" / "tubular_organ_370x306_25fps.avi")) as source:
        assert [picture.pts for picture in source] == list(range(1, 306))
        assert source.faults == {}


@pytest.mark.data
@pytest.mark.parametrize("start_s", [0.0, 3.0, 7.48, 12.0])
def test_a_start_in_a_real_avi_with_packed_b_frames_is_exact(data_dir: Path, start_s: float) -> None:
    path = str(data_dir / "videos" / "tubular_organ_370x306_25fps.avi")
    first = round(start_s * 25)
    with AviSource(path) as whole, AviSource(path, SourceOptions(start_s=start_s, duration_s=0.2)) as part:
        images = [image_of(picture) for picture in whole]
        for index, picture in enumerate(part):
            assert picture.pts == 1 + first + index
            np.testing.assert_array_equal(image_of(picture), images[first + index])


@pytest.mark.data
def test_the_real_colonoscopy_plays_whole(data_dir: Path) -> None:
    with AviSource(str(data_dir / "videos" / "colonoscopy_polyp_560x480_25fps.avi")) as source:
        assert [picture.pts for picture in source] == list(range(181))
        assert (source.info.size_hw, source.info.duration_s, source.faults) == ((480, 560), 7.24, {})
