"""Streams through FFmpeg, read from files so that they end at once: what comes out, and that damage never crashes."""

import random
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from endostream.configs.errors import EndostreamError, SourceMissing
from endostream.pipeline.source import SourceOptions
from endostream.pipeline.sources.stream_source import StreamSource

OPTIONS = SourceOptions(extra={"live": {"silence_s": 0.5, "open_timeout_s": 2.0}})


@pytest.fixture(scope="module")
def stream() -> bytes:
    """A second of H.264 in MPEG-TS."""
    out = BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number, np.uint8))
            frame.pts = number
            for packet in video.encode(frame):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
    return out.getvalue()


def play(address: str) -> tuple[int, str]:
    """Play to the end: grey value of the last picture, -1 without one, and how it ended."""
    shade = -1
    try:
        with StreamSource(address, OPTIONS) as source:
            for picture in source:
                image = np.empty((*picture.size_hw, 3), np.uint8)
                picture.fill(image)
                shade = int(image[0, 0, 0])
    except EndostreamError as error:
        return shade, str(error).removeprefix(f"source: {address}; ")
    return shade, ""


def test_a_stream_that_is_over_at_once_still_gives_its_newest_picture_and_says_what_it_is(
    stream: bytes, tmp_path: Path
) -> None:
    """FFmpeg's stream dies with the thread that reads it: asking it for its rate afterwards once crashed capture."""
    path = tmp_path / "stream.ts"
    path.write_bytes(stream)
    with StreamSource(f"file:{path}", OPTIONS) as source:
        assert (source.info.size_hw, source.info.fps, source.info.codec) == ((48, 64), 25, "h264")
        assert source.info.live
    shade, ending = play(f"file:{path}")
    assert shade == pytest.approx(240, abs=8)
    assert ending == "the sender has ended"


def test_a_hundred_damaged_streams_end_in_pictures_or_one_line(stream: bytes, tmp_path: Path) -> None:
    path, endings = tmp_path / "stream.ts", set()
    for seed in range(100):
        dice = random.Random(seed)
        damaged = bytearray(stream)
        for _ in range(dice.choice([1, 10, 200])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.randrange(1, len(damaged))])
        endings.add(play(f"file:{path}")[1])
    known = ("the sender has ended", "nothing came in time", "no picture in 2 s", "carries no video")
    known += ("a stream was added to it", "Invalid data found when processing input", "End of file")
    assert {ending for ending in endings if not ending.startswith((*known, "nothing in it can be"))} == set()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("tcp://127.0.0.1:1", "cannot be opened (connection refused). Try: the port its sender listens on"),
        (
            "rtsp://no-such.invalid/1",
            "host 'no-such.invalid' cannot be resolved; expected one with a name or",
        ),
        ("srt://127.0.0.1:1", "PyAV's FFmpeg is built without srt"),
        ("lavfi:nosuchfilter", "cannot be opened (filter not found). Try: lavfi:testsrc2"),
        ("x11grab::987", "cannot be opened ("),
    ],
)
def test_an_address_that_cannot_be_right_is_missing(address: str, problem: str) -> None:
    with pytest.raises(SourceMissing) as caught:
        StreamSource(address, OPTIONS)
    assert str(caught.value).startswith(f"source: {address}; {problem}")


def test_a_filter_graph_runs_in_real_time_and_stops_when_told() -> None:
    stopping: list[bool] = []
    extra = {**OPTIONS.extra, "stopping": lambda: bool(stopping)}
    with StreamSource("lavfi:testsrc2=size=64x48:rate=50", SourceOptions(extra=extra)) as source:
        pictures = iter(source)
        first, second = next(pictures), next(pictures)
        assert second.seq > first.seq
        assert (second.arrival_ns or 0) > (first.arrival_ns or 0)
        stopping.append(True)
        assert list(pictures) == []
