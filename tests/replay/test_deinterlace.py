"""Combs go where the stream says it is interlaced, and nothing else changes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from endostream.pipeline.source import SourceOptions
from endostream.replay.avi import AviSource

from .make_video import VideoSpec, make_video

AUTO = SourceOptions(extra={"deinterlace": "auto"})


def combed_frame(index: int) -> np.ndarray:
    """A bright bar that moves 8 px between the two fields of a picture."""
    picture = np.full((64, 96, 3), 60, np.uint8)
    for field in (0, 1):
        left = 16 + 8 * (2 * index + field) % 64
        picture[field::2, left : left + 16] = 200
    return picture


def make_combed(path: Path, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(combed_frame(index), "bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def play(path: Path, options: SourceOptions | None = None) -> tuple[list[int], np.ndarray]:
    with AviSource(str(path), options) as source:
        pts, images = [], []
        for picture in source:
            images.append(np.zeros((*picture.size_hw, 3), np.uint8))
            picture.fill(images[-1])
            pts.append(picture.pts)
    return pts, np.stack(images)


def comb(images: np.ndarray) -> float:
    """Mean difference of a line from the mean of its neighbours: what a comb is high in."""
    grey = images.mean(axis=-1)
    return float(np.abs(grey[:, 1:-1] - (grey[:, :-2] + grey[:, 2:]) / 2).mean())


@pytest.fixture
def interlaced(tmp_path: Path) -> Path:
    return make_combed(tmp_path / "interlaced.mp4", {"x264-params": "tff=1:bframes=0", "qp": "0"})


def test_auto_takes_the_combs_out_one_picture_for_one_and_at_the_same_times(interlaced: Path) -> None:
    recorded_pts, recorded = play(interlaced)
    pts, deinterlaced = play(interlaced, AUTO)
    assert pts == recorded_pts
    assert recorded.shape == deinterlaced.shape
    assert comb(recorded) > 10
    assert comb(deinterlaced) < comb(recorded) / 4


def test_off_leaves_the_picture_as_recorded(interlaced: Path) -> None:
    off: dict[str, Any] = {"deinterlace": "off"}
    np.testing.assert_array_equal(play(interlaced)[1], play(interlaced, SourceOptions(extra=off))[1])


def test_a_progressive_stream_is_not_touched_even_where_it_is_combed(tmp_path: Path) -> None:
    path = make_combed(tmp_path / "progressive.mp4", {"x264-params": "bframes=0", "qp": "0"})
    np.testing.assert_array_equal(play(path)[1], play(path, AUTO)[1])


def test_dv_is_interlaced_and_every_picture_comes_out(tmp_path: Path) -> None:
    path = make_video(tmp_path / "dv.avi", VideoSpec("dvvideo", "yuv420p", (576, 720), frames=5))
    assert play(path, AUTO)[0] == [0, 1, 2, 3, 4]


def test_a_single_interlaced_picture_comes_out(tmp_path: Path) -> None:
    path = make_video(tmp_path / "dv.avi", VideoSpec("dvvideo", "yuv420p", (576, 720), frames=1))
    assert play(path, AUTO)[0] == [0]


def test_a_change_of_size_comes_through(tmp_path: Path) -> None:
    parts = []
    for name, size_hw in (("small", (64, 96)), ("large", (96, 128))):
        spec = VideoSpec("libx264", size_hw=size_hw, options={"x264-params": "tff=1:bframes=0"})
        parts.append(make_video(tmp_path / f"{name}.ts", spec).read_bytes())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    with AviSource(str(joined), AUTO) as source:
        assert [picture.size_hw for picture in source] == [(64, 96)] * 12 + [(96, 128)] * 12
