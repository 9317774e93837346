"""What endoscopy archives hold: each codec and container plays every picture, in order, at its time."""

from pathlib import Path

import numpy as np
import pytest

from endostream.pipeline.source import SourceOptions
from endostream.replay.avi import AviSource

from .make_video import VideoSpec, make_video, number_of

PAL = (576, 720)
# VC-1 has no encoder in FFmpeg: WMV 7 and 8, which recorders wrote too, stand in for its container and times.
FORMATS = {
    "mpeg4.avi": VideoSpec("mpeg4"),
    "mpeg4_b_frames.avi": VideoSpec("mpeg4", options={"bf": "2"}),
    "msmpeg4v2.avi": VideoSpec("msmpeg4v2"),
    "h264.avi": VideoSpec("libx264"),
    "h264.mp4": VideoSpec("libx264"),
    "h264.mkv": VideoSpec("libx264"),
    "hevc.mp4": VideoSpec("libx265", options={"x265-params": "log-level=none:pools=1"}),
    "mjpeg.avi": VideoSpec("mjpeg", "yuvj420p"),
    "dv.avi": VideoSpec("dvvideo", "yuv420p", PAL),
    "dv.dv": VideoSpec("dvvideo", "yuv420p", PAL),
    "wmv1.wmv": VideoSpec("wmv1", container="asf"),
    "wmv2.wmv": VideoSpec("wmv2", container="asf"),
    "mpeg1.mpg": VideoSpec("mpeg1video"),
    "mpeg2.mpg": VideoSpec("mpeg2video", container="vob"),
    "mpeg2.ts": VideoSpec("mpeg2video"),
    "huffyuv.avi": VideoSpec("huffyuv", "yuv422p"),
    "huffyuv_rgb.avi": VideoSpec("huffyuv", "rgb24"),
    "ffv1.avi": VideoSpec("ffv1"),
    "ffv1_rgb.mkv": VideoSpec("ffv1", "bgr0"),
    "ffv1_10bit.mkv": VideoSpec("ffv1", "yuv420p10le"),
    "ffv1_grey.mkv": VideoSpec("ffv1", "gray"),
    "raw_nv12.mkv": VideoSpec("rawvideo", "nv12"),
    "odd_size.avi": VideoSpec("mpeg4", size_hw=(47, 63)),
    "odd_size_lossless.avi": VideoSpec("ffv1", size_hw=(47, 63)),
    "tiny.avi": VideoSpec("mpeg4", size_hw=(16, 16)),
    "with_sound.avi": VideoSpec("mpeg4", audio=True),
}


def play(path: Path, options: SourceOptions | None = None) -> tuple[list[int], list[int], list[float]]:
    """Seqs, numbers and times of the pictures."""
    seqs, numbers, times = [], [], []
    with AviSource(str(path), options) as source:
        for picture in source:
            image_bgr = np.zeros((*picture.size_hw, 3), np.uint8)
            picture.fill(image_bgr)
            seqs.append(picture.seq)
            numbers.append(number_of(image_bgr))
            times.append(picture.time_s)
        assert source.faults == {}
    return seqs, numbers, times


@pytest.mark.parametrize("name", FORMATS)
def test_every_picture_plays_in_order_and_at_its_time(tmp_path: Path, name: str) -> None:
    seqs, numbers, times = play(make_video(tmp_path / name, FORMATS[name]))
    assert seqs == list(range(12))
    visible = 0b1111 if name == "tiny.avi" else 0xFF
    assert [number & visible for number in numbers] == list(range(12))
    assert np.diff(times) == pytest.approx([0.04] * 11)


@pytest.mark.parametrize("name", FORMATS)
def test_the_info_agrees_with_the_first_picture(tmp_path: Path, name: str) -> None:
    spec = FORMATS[name]
    with AviSource(str(make_video(tmp_path / name, spec))) as source:
        picture = next(iter(source))
        assert source.info.size_hw == picture.size_hw == spec.size_hw
        assert source.info.fps == 25
        assert source.info.time_base == picture.time_base
        assert not source.info.live
        assert "fps" not in source.info.assumed


SEEKABLE = [
    "mpeg4_b_frames.avi",
    "h264.avi",
    "h264.mp4",
    "h264.mkv",
    "mjpeg.avi",
    "wmv2.wmv",
    "mpeg2.mpg",
    "mpeg2.ts",
]


@pytest.mark.parametrize("name", SEEKABLE)
def test_a_start_in_the_middle_gives_exactly_the_pictures_that_playing_through_gives(
    tmp_path: Path, name: str
) -> None:
    spec = FORMATS[name]
    spec = VideoSpec(
        spec.codec, spec.pix_fmt, frames=100, options=spec.options | {"g": "12"}, container=spec.container
    )
    path = make_video(tmp_path / name, spec)
    _, all_numbers, all_times = play(path)
    seqs, numbers, times = play(path, SourceOptions(start_s=2.2, duration_s=0.4))
    assert seqs == list(range(10))
    assert numbers == list(range(55, 65)) == all_numbers[55:65]
    assert times == all_times[55:65]


def test_a_very_large_picture_plays(tmp_path: Path) -> None:
    path = make_video(tmp_path / "8k.avi", VideoSpec("mjpeg", "yuvj420p", size_hw=(4320, 7680), frames=2))
    assert play(path)[1] == [0, 1]
