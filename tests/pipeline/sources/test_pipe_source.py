"""Pictures from commands: what they write, what they say, and how they end."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.source import SourceOptions
from endostream.pipeline.sources.child_command import ChildCommand
from endostream.pipeline.sources.pipe_source import PipeSource

from .live_rig import HERE, PATIENCE_S, read_pattern

SENDER = f"{sys.executable} {HERE / 'pattern_sender.py'} y4m"


class Heard:
    """A pipe source that is open, and what it logged."""

    def __init__(self, command: str, **settings: Any) -> None:
        self.log: list[str] = []
        self.ending = ""
        extra = {"live": settings, "log": lambda text, level: self.log.append(text)}
        self.source = PipeSource(f"pipe:{command}", SourceOptions(extra=extra))

    def pictures(self) -> list[np.ndarray[Any, Any]]:
        """All that come until the command ends, as BGR; how it ended is in ``ending``."""
        images: list[np.ndarray[Any, Any]] = []
        with self.source:
            try:
                for picture in self.source:
                    image = np.empty((*picture.size_hw, 3), np.uint8)
                    picture.fill(image)
                    images.append(image)
            except SourceLost as error:
                self.ending = str(error).rpartition("; ")[2]
        return images


def file_of(folder: Path, *parts: bytes) -> Path:
    path = folder / "pictures"
    path.write_bytes(b"".join(parts))
    return path


def slowly(path: Path, size: int) -> str:
    """A command that writes ``path`` in pieces of ``size`` bytes, each when the one before was surely taken."""
    code = "import sys,time;d=open(sys.argv[1],'rb').read();n=int(sys.argv[2])\n"
    code += "for i in range(0,len(d),n):sys.stdout.buffer.write(d[i:i+n]);sys.stdout.flush();time.sleep(.2)"
    return f'{sys.executable} -c "{code}" {path} {size}'


def test_the_pattern_comes_through_in_order(tmp_path: Path) -> None:
    heard = Heard(f"{SENDER} 6")
    info = heard.source.info
    images = heard.pictures()
    numbers = [read_pattern(image)[0] for image in images]
    assert (info.size_hw, info.fps, info.pixel_format, info.live) == ((240, 320), 25, "yuv420p", True)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 5
    assert heard.ending == "the command has ended with code 0"


def test_raw_pictures_need_no_header(tmp_path: Path) -> None:
    pictures = [np.full((16, 16, 3), value, np.uint8) for value in (10, 20, 30)]
    path = file_of(tmp_path, *(picture.tobytes() for picture in pictures))
    heard = Heard(slowly(path, 768), pipe_format="bgr24", width=16, height=16, fps=50)
    assert [int(image[0, 0, 0]) for image in heard.pictures()] == [10, 20, 30]


def test_the_only_picture_of_a_command_that_has_ended_is_shown(tmp_path: Path) -> None:
    """It was held back until capture was ready, and then forgotten, since the end was noticed first."""
    path = file_of(tmp_path, np.full((16, 16, 3), 77, np.uint8).tobytes())
    heard = Heard(f"cat {path}", pipe_format="bgr24", width=16, height=16, fps=50)
    heard.source._reader.join(PATIENCE_S)  # the end is there before the picture is asked for
    assert [int(image[0, 0, 0]) for image in heard.pictures()] == [77]
    assert heard.ending == "the command has ended with code 0"


def test_frame_lines_with_parameters_and_colour_ranges_are_read(tmp_path: Path) -> None:
    head = b"YUV4MPEG2 W16 H16 F25:1 Cmono XCOLORRANGE=LIMITED\n"
    path = file_of(tmp_path, head, b"FRAME Ip XTAG\n" + bytes([16]) * 256, b"FRAME\n" + bytes([235]) * 256)
    images = Heard(slowly(path, len(head) + 14 + 256)).pictures()
    assert [int(image.max()) for image in images] == [0, 255]


def test_garbage_after_a_picture_is_a_loss_and_half_a_picture_none(tmp_path: Path) -> None:
    head = b"YUV4MPEG2 W16 H16 F25:1 Cmono\n"
    garbage = file_of(tmp_path, head, b"FRAME\n", bytes(256), b"GARBAGE" * 100)
    heard = Heard(slowly(garbage, len(head) + 262))
    assert len(heard.pictures()) == 1
    assert heard.ending == "garbage where a picture should begin: b'GARBAG'"
    half = file_of(tmp_path, head, b"FRAME\n", bytes(256), b"FRAME\n", bytes(99))
    assert len(Heard(slowly(half, len(head) + 262)).pictures()) == 1


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("exit 7", "the command has ended with code 7, before the first picture"),
        (
            "echo it is broken >&2; exit 1",
            "the command has ended with code 1: it is broken, before the first picture",
        ),
        ("head -c 100000 /dev/zero", "expected a line of text, before the first picture"),
        ("echo hello", "begins with b'hello'; expected YUV4MPEG2, before the first picture"),
        ("printf 'YUV4MPEG2 W1'", "the command has ended with code 0, before the first picture"),
    ],
)
def test_a_command_that_gives_no_picture_is_told_at_once(command: str, problem: str) -> None:
    with pytest.raises(SourceMissing) as caught:
        Heard(command)
    said, _, hint = str(caught.value).partition(". Try: ")
    assert said.endswith(problem)
    assert hint.startswith(f"{command} | head -c 80, which should show YUV4MPEG2")


@pytest.mark.parametrize(
    ("command", "code", "hint"),
    [
        ("no-such-command", 127, "the name of the program as it is installed, or its whole path"),
        ("/", 126, "chmod +x, if it is a program"),
        ("echo it is broken >&2; exit 1", 1, "echo it is broken >&2; exit 1 | head"),
    ],
)
def test_why_a_command_failed_is_told_once_with_what_to_try(command: str, code: int, hint: str) -> None:
    """The shell's own words stood in the log, and once more in the message."""
    log: list[str] = []
    with pytest.raises(SourceMissing) as caught:
        PipeSource(f"pipe:{command}", SourceOptions(extra={"log": lambda text, _: log.append(text)}))
    said, _, tried = str(caught.value).partition(". Try: ")
    assert f"the command has ended with code {code}: " in said
    assert tried.startswith(hint)
    assert log == []


def test_no_command_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="expected pipe:COMMAND"):
        Heard(" ")


def test_a_command_that_falls_silent_is_lost_and_one_that_never_speaks_too() -> None:
    heard = Heard(f"{SENDER} 2; sleep 1000", silence_s=0.4)
    heard.pictures()
    assert heard.ending == "no picture for 0.4 s"
    with pytest.raises(SourceLost, match=r"no picture in 0\.3 s"):
        Heard("sleep 1000", open_timeout_s=0.3)


def test_what_it_says_is_logged_by_line_printable_and_not_without_end() -> None:
    heard = Heard(f"printf 'one\\rtwo\\n\\033[31mthree\\nfour' >&2; yes flood | head -n 1000 >&2; {SENDER} 3")
    heard.pictures()
    assert heard.log[:3] == ["pipe: one", "pipe: two", "pipe: [31mthree"]
    assert len(heard.log) < 200
    assert heard.source.faults["log_lines_left_out"] > 800


def test_closing_kills_all_that_the_command_started_and_leaves_no_zombie(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    heard = Heard(f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/pid; {SENDER}")
    started = psutil.Process(int((tmp_path / "pid").read_text()))
    heard.source.close()
    heard.source.close()
    started.wait(PATIENCE_S)
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_closed_command_gives_its_descriptors_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        child = ChildCommand("sleep 1000")
        assert child.exit_code() is None
        child.close()
        assert child.exit_code() == -9
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_command_that_writes_without_pause_does_not_keep_its_reader_from_stopping(tmp_path: Path) -> None:
    begin = file_of(tmp_path, b"YUV4MPEG2 W16 H16 F25:1\n")
    (more := tmp_path / "more").write_bytes((b"FRAME\n" + bytes(384)) * 1024)
    with PipeSource(f"pipe:cat {begin}; while cat {more}; do :; done") as source:
        os.set_blocking(source._reader._child.stdout, True)  # as if something to read were always there
        source._reader.stop()
        source._reader.join(PATIENCE_S)
        assert not source._reader.is_alive()
