"""Video files: every picture once, at the source's time, in true colours, playable whatever happens."""

import contextlib
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.sink import SinkContext, check_sink, parse_sink
from endostream.pipeline.sinks.video_sink import VideoSink

from .sink_contract import FileSinkContract, everything_in, picture, presented

ENDINGS = ["mp4", "mkv", "avi"]
MS = Fraction(1, 1000)


class TestMp4Sink(FileSinkContract):
    address = "video:{folder}/o.mp4"


class TestMkvSink(FileSinkContract):
    address = "video:{folder}/o.mkv"


class TestAviSink(FileSinkContract):
    address = "video:{folder}/o.avi"


def sink_for(path: Path, fps: Fraction | None = Fraction(25), part: int = 0, **options: Any) -> VideoSink:
    return VideoSink(parse_sink(f"video:{path}"), SinkContext(fps, options, part))


def record(path: Path, pts: list[int], time_base: Fraction = MS, **more: Any) -> VideoSink:
    with sink_for(path, **more) as sink:
        for seq, each in enumerate(pts):
            sink.write(presented(seq, pts=each, time_base=time_base))
    return sink


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames_of(path)]


def smooth(height: int, width: int) -> ImageBgr:
    """A gradient through many colours, which lossy codecs reproduce well."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height))
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_picture_is_in_the_file_once_at_its_own_time(tmp_path: Path, ending: str) -> None:
    record(tmp_path / f"o.{ending}", list(range(30)), Fraction(1, 25))
    assert times_of(tmp_path / f"o.{ending}") == [Fraction(number, 25) for number in range(30)]
    assert cv2.VideoCapture(str(tmp_path / f"o.{ending}")).get(cv2.CAP_PROP_FRAME_COUNT) == 30


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_variable_frame_rate_and_a_late_start_are_kept(tmp_path: Path, ending: str) -> None:
    pts = [60000, 60033, 60034, 60500, 65000, 65040]
    record(tmp_path / f"o.{ending}", pts)
    assert times_of(tmp_path / f"o.{ending}") == [each * MS for each in pts]


def test_an_avi_keeps_gaps_on_its_frame_grid_and_begins_at_zero(tmp_path: Path) -> None:
    record(tmp_path / "o.avi", [400, 440, 561, 600])
    assert times_of(tmp_path / "o.avi") == [Fraction(number, 25) for number in (0, 1, 4, 5)]


@pytest.mark.parametrize("time_base", [Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000000)])
def test_an_mp4_keeps_the_times_of_any_time_base_to_the_tick(tmp_path: Path, time_base: Fraction) -> None:
    record(tmp_path / "o.mp4", [0, 3003, 6007], time_base)
    assert times_of(tmp_path / "o.mp4") == [each * time_base for each in (0, 3003, 6007)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_loops_and_sources_follow_one_another(tmp_path: Path, ending: str) -> None:
    with sink_for(tmp_path / f"o.{ending}") as sink:
        for source_id, loop in ((0, 0), (0, 1), (1, 0)):
            for seq in range(3):
                sink.write(presented(seq, source_id=source_id, loop=loop))
    assert times_of(tmp_path / f"o.{ending}") == [Fraction(number, 25) for number in range(9)]
    assert sink.mended_times == 0


def test_times_that_do_not_grow_are_mended_counted_and_cost_no_frame(tmp_path: Path) -> None:
    sink = record(tmp_path / "o.mp4", [0, 40, 40, 20, 80])
    assert times_of(tmp_path / "o.mp4") == [
        Fraction(0), 40 * MS, 40 * MS + Fraction(1, 16000), 40 * MS + Fraction(2, 16000), 80 * MS
    ]  # fmt: skip
    assert sink.mended_times == 2


@pytest.mark.parametrize("size_hw", [(1, 1), (16, 16), (31, 17), (48, 63), (480, 560)])
def test_matroska_is_lossless(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    pictures = [picture(*size_hw, seed=seed) for seed in range(3)]
    with sink_for(tmp_path / "o.mkv") as sink:
        for seq, each in enumerate(pictures):
            sink.write(presented(seq, each))
    for frame, each in zip(frames_of(tmp_path / "o.mkv"), pictures, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(format="bgr24"), each)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size_hw", [(1, 1), (2, 2), (16, 16), (48, 63), (49, 64), (31, 17)])
def test_every_size_plays_without_losing_a_pixel_row(
    tmp_path: Path, ending: str, size_hw: tuple[int, int]
) -> None:
    with sink_for(tmp_path / f"o.{ending}") as sink:
        for seq in range(3):
            sink.write(presented(seq, smooth(*size_hw)))
    assert [(frame.height, frame.width) for frame in frames_of(tmp_path / f"o.{ending}")] == [size_hw] * 3


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("size_hw", "matrix"), [((480, 640), 6), ((720, 1280), 1), ((481, 641), 6)])
def test_colours_come_back(tmp_path: Path, ending: str, size_hw: tuple[int, int], matrix: int) -> None:
    """A wrong matrix would be off by 10 in green. An AVI cannot name one; players assume the one we wrote."""
    image = smooth(*size_hw)
    with sink_for(tmp_path / f"o.{ending}", crf=4) as sink:
        sink.write(presented(0, image))
    [frame] = frames_of(tmp_path / f"o.{ending}")
    assumed = {"src_colorspace": {1: 1, 6: 5}[matrix]} if ending == "avi" else {}
    off = np.abs(frame.reformat(format="bgr24", **assumed).to_ndarray().astype(int) - image).mean(axis=(0, 1))
    assert off.max() < 3
    if ending == "mp4":
        assert (frame.colorspace, frame.color_range) == (matrix, 1)


@pytest.mark.parametrize(
    ("ending", "codec", "stored"),
    [
        ("mp4", "auto", "h264"),
        ("mkv", "auto", "ffv1"),
        ("avi", "auto", "mpeg4"),
        ("mp4", "mpeg4", "mpeg4"),
        ("mkv", "h264", "h264"),
        ("avi", "ffv1", "ffv1"),
        ("MP4", "auto", "h264"),
    ],
)
def test_the_codec_is_the_one_asked_for(tmp_path: Path, ending: str, codec: str, stored: str) -> None:
    record(tmp_path / f"o.{ending}", [0, 40, 80], codec=codec)
    with av.open(str(tmp_path / f"o.{ending}")) as container:
        assert container.streams.video[0].codec_context.name == stored
    assert len(frames_of(tmp_path / f"o.{ending}")) == 3


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "ffv1"), ("avi", "h264")])
def test_a_codec_the_container_cannot_hold_is_an_error(tmp_path: Path, ending: str, codec: str) -> None:
    with pytest.raises(ConfigError, match=rf"record.codec: {codec} in a .{ending} file; expected .*Try:"):
        sink_for(tmp_path / f"o.{ending}", codec=codec)


@pytest.mark.parametrize("name", ["o.mov", "o", "o.txt", "mp4", ".mp4"])
def test_an_unknown_ending_is_an_error_that_names_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one of \.mp4, \.mkv, \.avi"):
        check_sink(parse_sink(f"video:{tmp_path}/{name}"))
    assert everything_in(tmp_path) == set()


def test_a_folder_or_a_missing_folder_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "o.mp4").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        check_sink(parse_sink(f"video:{tmp_path}/o.mp4"))
    with pytest.raises(SinkError, match=r"no folder .*Try: mkdir -p"):
        check_sink(parse_sink(f"video:{tmp_path}/none/o.mp4"))


def test_an_existing_file_is_left_alone_by_the_check_and_replaced_by_the_run(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    path.write_bytes(b"old")
    check_sink(parse_sink(f"video:{path}"))
    assert path.read_bytes() == b"old"
    record(path, [0, 40])
    assert len(frames_of(path)) == 2


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("case:7.mp4"), [0, 40])
    assert everything_in(tmp_path) == {"case:7.mp4"}


def test_a_change_of_size_opens_another_file_and_keeps_the_times(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.mp4") as sink:
        for seq, size_hw in enumerate([(48, 64), (48, 64), (32, 32), (48, 64)]):
            sink.write(presented(seq, picture(*size_hw)))
    assert [path.name for path in sink.paths] == ["o.mp4", "o.size2.mp4", "o.size3.mp4"]
    assert [times_of(path) for path in sink.paths] == [
        [Fraction(0), Fraction(1, 25)], [Fraction(2, 25)], [Fraction(3, 25)]
    ]  # fmt: skip


def test_a_restart_goes_on_in_a_file_of_its_own(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4", [0, 40])
    sink = record(tmp_path / "o.mp4", [120, 160, 200], part=1)
    assert [path.name for path in sink.paths] == ["o.part1.mp4"]
    assert len(frames_of(tmp_path / "o.mp4")) == 2
    assert times_of(tmp_path / "o.part1.mp4") == [120 * MS, 160 * MS, 200 * MS]


def test_no_frame_leaves_no_file(tmp_path: Path) -> None:
    sink_for(tmp_path / "o.mp4").close()
    assert everything_in(tmp_path) == set()


def test_the_picture_may_change_as_soon_as_write_returns(tmp_path: Path) -> None:
    image = picture()
    with sink_for(tmp_path / "o.mkv") as sink:
        sink.write(presented(0, image))
        image[:] = 0
        sink.write(presented(1, image))
    first, second = (frame.to_ndarray(format="bgr24") for frame in frames_of(tmp_path / "o.mkv"))
    np.testing.assert_array_equal(first, picture())
    assert not second.any()


def test_a_finished_mp4_is_an_ordinary_one_and_not_fragmented(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4", [40 * number for number in range(60)])
    content = (tmp_path / "o.mp4").read_bytes()
    assert content[36 + 8 + 4 :][:4] == b"mdat"
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].frames == 60
        container.seek(int(2 * av.time_base))
        assert next(container.decode(video=0)).time == 2.0


RECORDER = """
import resource, signal, sys
from fractions import Fraction
import numpy as np
from endostream.configs.errors import SinkError
from endostream.pipeline.frame import Frame, FrameKey, Presented
from endostream.pipeline.sink import SinkContext, open_sink, parse_sink

path, frames, limit_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if limit_bytes:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
sink = open_sink(parse_sink("video:" + path), SinkContext(Fraction(25)))
image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
try:
    for seq in range(frames):
        sink.write(Presented(Frame(FrameKey(0, 0, seq), seq, Fraction(1, 25), 0, np.roll(image, seq, axis=1))))
except SinkError as error:
    sink.close()
    print("SinkError:", error)
    sys.exit()
print("recorded", flush=True)
sys.stdin.read()
"""


def playable_times(path: Path) -> list[Fraction]:
    """Times of the frames a player gets to show: a torn end is an error only once it is reached."""
    times = []
    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        for frame in container.decode(video=0):
            times.append(frame.pts * frame.time_base)
    return times


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("ending", ENDINGS)
def test_after_a_sigkill_the_file_plays_up_to_a_second_before(tmp_path: Path, ending: str) -> None:
    command = [sys.executable, "-c", RECORDER, str(tmp_path / f"o.{ending}"), "90", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "recorded\n"
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=20)
    times = playable_times(tmp_path / f"o.{ending}")
    assert times == [Fraction(number, 25) for number in range(len(times))]
    assert 90 - 25 <= len(times) <= 90


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_one_clear_line_and_leaves_what_fits(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o.{ending}"
    command = [sys.executable, "-c", RECORDER, str(path), "200", "1500000"]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=60, check=True)
    [line] = ended.stdout.splitlines()
    assert line.startswith(f"SinkError: sink video:{path}: cannot write {path} (")
    assert "Try:" in line
    assert "Traceback" not in ended.stderr
    times = playable_times(path)
    assert len(times) > 10
    assert times == [Fraction(number, 25) for number in range(len(times))]


def test_after_an_error_writing_says_so_and_closing_is_quiet(tmp_path: Path) -> None:
    sink = sink_for(tmp_path / "none" / "o.mp4")
    for reason in ("cannot write", "an earlier write failed"):
        with pytest.raises(SinkError, match=reason):
            sink.write(presented(0))
    sink.close()


@pytest.mark.data
def test_a_real_recording_keeps_frames_size_and_times(data_dir: Path, tmp_path: Path) -> None:
    with av.open(str(data_dir / "videos" / "colonoscopy_polyp_560x480_25fps.avi")) as container:
        source = list(container.decode(video=0))
    with sink_for(tmp_path / "o.mp4") as sink:
        for seq, frame in enumerate(source):
            image = frame.to_ndarray(format="bgr24")
            sink.write(presented(seq, image, pts=frame.pts, time_base=frame.time_base))
    written = frames_of(tmp_path / "o.mp4")
    assert len(written) == 181
    assert {(frame.height, frame.width) for frame in written} == {(480, 560)}
    assert times_of(tmp_path / "o.mp4") == [frame.pts * frame.time_base for frame in source]
