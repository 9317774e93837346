"""PNG snapshots: lossless, named after the frame, every N-th, whole or not there."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.pipeline.sink import SinkContext, check_sink, parse_sink
from endostream.pipeline.sinks.png_sink import PngSink, PngTarget, parse_png_path

from .sink_contract import FileSinkContract, everything_in, picture, presented


class TestPngSink(FileSinkContract):
    address = "png:{folder}/snaps"


def sink_for(path: str) -> PngSink:
    return PngSink(parse_sink(f"png:{path}"), SinkContext())


def test_a_snapshot_holds_every_pixel_and_is_named_after_its_frame(tmp_path: Path) -> None:
    with sink_for(f"{tmp_path}/a/b") as sink:
        sink.write(presented(12, picture(31, 17), source_id=1, loop=2))
    assert everything_in(tmp_path / "a" / "b") == {"source1_loop2_seq000012.png"}
    read = cv2.imread(str(tmp_path / "a" / "b" / "source1_loop2_seq000012.png"))
    np.testing.assert_array_equal(read, picture(31, 17))


def test_one_of_every_n_frames_is_kept_and_a_dropped_frame_costs_no_snapshot(tmp_path: Path) -> None:
    with sink_for(f"{tmp_path}?every=3") as sink:
        for seq in (0, 1, 2, 4, 5, 6, 7, 12):
            sink.write(presented(seq))
    assert sorted(everything_in(tmp_path)) == [f"source0_loop0_seq{seq:06d}.png" for seq in (0, 4, 6, 12)]


def test_pictures_of_our_own_are_left_out(tmp_path: Path) -> None:
    with sink_for(str(tmp_path)) as sink:
        sink.write(presented(0, synthetic=True))
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize("option", ["every=0", "every=-1", "every=x", "every", "every=", "each=2", ""])
def test_an_option_that_cannot_be_read_is_an_error(option: str) -> None:
    with pytest.raises(ConfigError, match=r"every=N"):
        check_sink(parse_sink(f"png:o?{option}"))


def test_the_option_is_taken_apart() -> None:
    assert parse_png_path(parse_sink("png:a/b?every=25")) == PngTarget(Path("a/b"), 25)
    assert parse_png_path(parse_sink("png:a/b")) == PngTarget(Path("a/b"), 1)


def test_a_folder_that_vanishes_is_one_clear_line(tmp_path: Path) -> None:
    with sink_for(f"{tmp_path}/a") as sink:
        sink.write(presented(0))
        (tmp_path / "a" / "source0_loop0_seq000000.png").unlink()
        (tmp_path / "a").rmdir()
        with pytest.raises(SinkError, match=r"cannot write .*seq000001.png"):
            sink.write(presented(1))
