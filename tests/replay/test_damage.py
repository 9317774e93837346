"""Whatever is wrong with a file: what can be decoded is played, the rest counted; nothing hangs, crashes or prints."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from endostream.configs.errors import ExitCode, SourceMissing
from endostream.pipeline.source import SourceOptions, open_source
from endostream.replay.avi import AviSource

from .make_video import VideoSpec, cut_off, flip_bytes, make_video, with_broken_index, without_frames

PLAY_ALL = """
import sys
import numpy as np
from endostream.configs.errors import SourceMissing
from endostream.replay.avi import AviSource
for path in sys.argv[1:]:
    try:
        with AviSource(path) as source:
            seqs = []
            for picture in source:
                picture.fill(np.empty((*picture.size_hw, 3), np.uint8))
                seqs.append(picture.seq)
        assert seqs == sorted(set(seqs))
        print(len(seqs), sum(source.faults.values()))
    except SourceMissing as error:
        print(0, error)
"""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    options = {"g": "10", "qmin": "5", "qmax": "5"}  # frames of much the same size
    return make_video(
        tmp_path / "video.avi", VideoSpec(frames=60, size_hw=(120, 160), options=options, texture=True)
    )


def test_twenty_files_with_flipped_bytes_each_end_and_print_nothing(video: Path) -> None:
    """In a process of its own: a crash of the decoder would take the tests along."""
    damaged = [str(flip_bytes(video, seed)) for seed in range(20)]
    run = subprocess.run(
        [sys.executable, "-c", PLAY_ALL, *damaged], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stderr == ""
    played = [int(line.split()[0]) for line in run.stdout.splitlines()]
    faults = [int(line.split()[1]) for line in run.stdout.splitlines()]
    assert len(played) == 20
    assert min(played) >= 15  # the first quarter is whole
    assert min(faults) > 0


def test_a_file_cut_in_the_middle_plays_what_is_there_and_counts_the_early_end(video: Path) -> None:
    with AviSource(str(cut_off(video, 0.5))) as source:
        played = sum(1 for _ in source)
        assert 25 <= played <= 32
        assert source.faults["ended_early"] == 1


def test_a_file_whose_end_was_not_asked_for_did_not_end_early(video: Path) -> None:
    with AviSource(str(video), SourceOptions(duration_s=1.0)) as source:
        assert sum(1 for _ in source) == 25
        assert source.faults == {}


@pytest.mark.parametrize("start_s", [0.0, 1.6])
def test_a_broken_index_costs_no_picture(video: Path, start_s: float) -> None:
    with (
        AviSource(str(video)) as whole,
        AviSource(str(with_broken_index(video)), SourceOptions(start_s)) as broken,
    ):
        expected = [picture.pts for picture in whole if picture.time_s >= start_s - 1e-6]
        assert [picture.pts for picture in broken] == expected


def test_a_picture_that_cannot_be_decoded_is_a_gap_in_seq(tmp_path: Path) -> None:
    path = make_video(tmp_path / "stills.avi", VideoSpec("mjpeg", "yuvj420p"))
    data = bytearray(path.read_bytes())
    first = data.index(b"movi")
    fifth = [place for place in range(first, len(data)) if data[place : place + 4] == b"00dc"][4]
    size = int.from_bytes(data[fifth + 4 : fifth + 8], "little")
    data[fifth + 8 : fifth + 8 + size] = bytes(size)
    path.write_bytes(data)
    with AviSource(str(path)) as source:
        assert [(picture.seq, picture.pts) for picture in source] == [(n, n) for n in range(12) if n != 4]
        assert source.faults == {"corrupt_packet": 1}
        assert source.first_cause == "Invalid data found when processing input"


def test_a_picture_missing_from_an_avi_is_noticed_by_the_count_in_its_header(tmp_path: Path) -> None:
    path = make_video(tmp_path / "stills.avi", VideoSpec("mjpeg", "yuvj420p"))
    data = path.read_bytes()
    places = [place for place in range(data.index(b"movi"), len(data)) if data[place : place + 4] == b"00dc"]
    path.write_bytes(data[: places[4]] + data[places[5] :])
    with AviSource(str(path)) as source:
        assert sum(1 for _ in source) == 11
        assert source.faults == {"ended_early": 1}


def test_bytes_missing_from_a_transport_stream_are_noticed_by_its_packet_counters(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.ts", VideoSpec("libx264", frames=30, size_hw=(120, 160), texture=True))
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    path.write_bytes(data[:middle] + data[middle + 188 :])
    with AviSource(str(path)) as source:
        list(source)
        assert source.faults["damaged_packet"] >= 1


def with_sound(path: Path) -> Path:
    """A second of video and sound as MPEG-TS."""
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        sound = container.add_stream("mp2", rate=44_100, layout="mono")
        for number in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 8 * number, np.uint8))
            picture.pts = number
            container.mux(video.encode(picture))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            samples.rate, samples.pts, samples.time_base = 44_100, 1152 * number, Fraction(1, 44_100)
            container.mux(sound.encode(samples))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def test_sound_that_begins_in_the_middle_of_a_recording_is_passed_over_and_costs_no_picture(
    tmp_path: Path,
) -> None:
    """PyAV raises an IndexError for each packet of a stream it did not find at the beginning."""
    spec = VideoSpec(
        "libx264", frames=200, size_hw=(240, 320), options={"qp": "10", "preset": "ultrafast"}, texture=True
    )
    silent = make_video(tmp_path / "v.ts", spec)
    assert silent.stat().st_size > 6_000_000  # FFmpeg looks for streams in the first 5 MB
    both = tmp_path / "both.ts"
    # Nor would it be missed at the end, where FFmpeg looks for the length.
    sound = with_sound(tmp_path / "s.ts").read_bytes()
    both.write_bytes(silent.read_bytes() + sound + silent.read_bytes())
    with AviSource(str(both)) as source:
        assert sum(1 for _ in source) == 425
        assert source.faults["stream_added"] == 1


def test_faults_add_up_over_iterations(video: Path) -> None:
    with AviSource(str(cut_off(video, 0.5))) as source:
        for _ in range(2):
            list(source)
        assert source.faults["ended_early"] == 2


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("This was a protocol of an examination, not its video.\n" * 100)


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def header_only(path: Path) -> None:
    whole = make_video(path.with_name("whole.avi"), VideoSpec())
    without_frames(whole).rename(path)


def sound_only(path: Path) -> None:
    import wave

    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1000))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, "the file is empty"),
        (text, "no video FFmpeg can read"),
        (noise, "no video FFmpeg can read"),
        (folder, "is a folder"),
        (pipe, "is a device or pipe"),
        (header_only, "no picture could be decoded"),
        (sound_only, "holds no video stream"),
        (lambda path: None, "cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(tmp_path: Path, make: object, says: str) -> None:
    path = tmp_path / "source.avi"
    make(path)  # type: ignore[operator]
    with pytest.raises(SourceMissing) as caught:
        AviSource(str(path))
    assert str(caught.value).startswith(f"source: {path}; {says}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.SOURCE == 3


def test_a_path_with_a_colon_is_no_network_address(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.avi", VideoSpec())
    odd = path.rename(tmp_path / "rtp:09:30 room 2.avi")
    with open_source(str(odd)) as source:
        assert sum(1 for _ in source) == 12
