"""The sender: what is sent in which slot, at what time, and what a recording of it says."""

import io
import json
import os
import re
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.pipeline.cli import run_command
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.witness.witness_file import seen_in_file
from endostream.pipeline.witness.witness_play import (
    Slot,
    SlotLog,
    base_pictures,
    faults_of,
    open_pipe,
    planned,
    play,
)

BASE = "phantom:288x216@25"


def numbers(slots: int, *faults: str) -> list[tuple[int | None, int | None, str]]:
    """The plan with faults as on the command line."""
    return planned(slots, faults_of(faults))


def test_each_fault_changes_what_it_says_and_nothing_else() -> None:
    assert numbers(3) == [(0, None, ""), (1, None, ""), (2, None, "")]
    assert numbers(3, "drop@1") == [(0, None, ""), (None, None, "drop"), (2, None, "")]
    assert numbers(3, "repeat@1") == [(0, None, ""), (1, None, ""), (1, None, "repeat")]
    assert numbers(3, "swap@0") == [(1, None, "swap"), (0, None, "swap"), (2, None, "")]
    assert numbers(3, "tear@2") == [(0, None, ""), (1, None, ""), (2, 1, "tear")]


@pytest.mark.parametrize("fault", ["drop@3", "repeat@2", "swap@2", "tear@0", "burn@1", "drop", "drop@-1"])
def test_a_fault_that_cannot_be_made_is_refused(fault: str) -> None:
    with pytest.raises(ConfigError, match="fault"):
        numbers(3, fault)


@pytest.mark.parametrize(
    ("one", "other", "frame"),
    [("drop@5", "repeat@5", 5), ("swap@5", "swap@6", 6), ("repeat@5", "drop@6", 6), ("drop@5", "tear@6", 5)],
)
def test_of_two_faults_on_the_same_frame_neither_undoes_the_other(one: str, other: str, frame: int) -> None:
    with pytest.raises(ConfigError, match=f"{other} and {one} both concern frame {frame}"):
        numbers(20, one, other)
    assert [cause for _, _, cause in numbers(8, "drop@5", "drop@6")] == [*[""] * 5, "drop", "drop", ""]


def test_frames_go_out_at_their_due_time_with_that_time_in_the_code() -> None:
    base, out = base_pictures(BASE), io.BytesIO()
    slots = list(play(base, Fraction(25), planned(3, {}), out, VirtualClock(1_000_000_000)))
    assert [(slot.number, slot.code_ns) for slot in slots] == [
        (n, 1_000_000_000 + n * 40_000_000) for n in range(3)
    ]
    header, _, rest = out.getvalue().partition(b"\n")
    assert header == b"YUV4MPEG2 W288 H216 F25:1 Ip A1:1 C420jpeg"
    assert len(rest) == 3 * (6 + 288 * 216 * 3 // 2)


def test_a_receiver_that_does_not_keep_up_costs_frames_that_are_logged_as_not_sent() -> None:
    clock = VirtualClock()

    class Slow(io.BytesIO):
        """Takes 100 ms for the frame that is the second write."""

        writes = 0

        def write(self, data: object) -> int:  # type: ignore[override]
            self.writes += 1
            clock.advance_ns(100_000_000 if self.writes == 2 else 0)
            return 0

    slots = list(play(base_pictures(BASE), Fraction(25), planned(5, {}), Slow(), clock))
    assert [(slot.number, slot.cause) for slot in slots] == [
        (0, ""),
        (None, "late"),
        (2, ""),
        (3, ""),
        (4, ""),
    ]
    assert slots[0] == Slot(0, 0, None, 0, 100_000_000)


def test_a_recording_of_it_is_read_and_every_fault_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, log = tmp_path / "w.y4m", tmp_path / "w.jsonl"
    faults = ["--fault", "drop@3", "--fault", "repeat@6", "--fault", "swap@9", "--fault", "tear@14"]
    played = [
        "witness",
        "play",
        BASE,
        "--out",
        str(video),
        "--frames",
        "18",
        "--rate",
        "200",
        "--log",
        str(log),
    ]
    assert run_command([*played, *faults]) == 0
    assert run_command(["witness", "read", str(video), "--size", "288x216", "--log", str(log), "--json"]) == 5
    result = json.loads(capsys.readouterr().out)
    late = [json.loads(line) for line in log.read_text().splitlines()]
    skipped = {slot["slot"] for slot in late if slot["cause"] == "late"}
    expected = {"repeated": {6}, "reordered": {9}, "torn": {14}} if not skipped else {}
    assert {kind: set(result[kind]) for kind in expected} == expected
    assert result["lost"] == []  # by its own log what was dropped was never sent
    assert run_command(["witness", "read", str(video), "--size", "288x216", "--json"]) == 5
    assert 3 in json.loads(capsys.readouterr().out)["lost"]


def test_a_whole_recording_ends_with_exit_code_0(tmp_path: Path) -> None:
    video = tmp_path / "w.y4m"
    base = base_pictures(BASE)
    with video.open("wb") as file:
        slots = list(play(base, Fraction(25), planned(10, {}), file, VirtualClock()))
    assert len(slots) == 10
    seen, unreadable = seen_in_file(video, (288, 216))
    assert ([each.number for each in seen], unreadable) == (list(range(10)), 0)
    assert run_command(["witness", "read", str(video), "--size", "288x216"]) == 0
    assert run_command(["witness", "read", str(video)]) == 0  # it was looked for at 720 × 576 only


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("320x240", "no code of its own size in any frame. Try: --size WxH as it was sent"),
        ("64x48", "no code in it: size: 64 × 48; expected at least 288 × 96, and not that flat. Try: --size"),
    ],
)
def test_a_recording_without_codes_is_told_in_a_line(
    tmp_path: Path, size: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "plain.avi"
    wide, high = map(int, size.split("x"))
    with av.open(str(video), "w") as target:
        stream = target.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuvj420p"
        target.mux(stream.encode(av.VideoFrame(wide, high, "yuvj420p")))
        target.mux(stream.encode(None))
    assert run_command(["witness", "read", str(video)]) == 3
    assert f"{video}; {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("no.mkv", "cannot be read (no such file or directory)"), ("s.wav", "holds no video stream")],
)
def test_what_is_no_recording_is_told_in_a_line(
    tmp_path: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with wave.open(str(tmp_path / "s.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    assert run_command(["witness", "read", str(tmp_path / name)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"endostream: witness: {tmp_path / name}; {said}")


def test_a_frame_dropped_on_purpose_is_named_as_not_sent_by_the_senders_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, log = tmp_path / "w.y4m", tmp_path / "w.jsonl"
    slots = SlotLog(log)
    with video.open("wb") as file:
        slots.slots.extend(
            play(base_pictures(BASE), Fraction(25), planned(5, {2: "drop"}), file, VirtualClock())
        )
    slots.close()
    words = ["witness", "read", str(video), "--size", "288x216"]
    assert run_command([*words, "--log", str(log)]) == 0
    assert "lost 0" in (said := capsys.readouterr().out)
    assert "not sent 1 (2)" in said
    for wrong in (video, tmp_path / "none.jsonl"):
        assert run_command([*words, "--log", str(wrong)]) == 2
        assert f"log: {wrong}; expected what witness play --log has written" in capsys.readouterr().err


def recorded(file: Path, count: int) -> Path:
    """Frames 0 to ``count``, the third dropped and the sixth shown twice, with what FFmpeg makes of the name."""
    plan = planned(count, faults_of(["drop@3", "repeat@6"]))
    raw = file.with_name("raw.y4m")
    with raw.open("wb") as out:
        list(play(base_pictures(BASE), Fraction(25), plan, out, VirtualClock()))
    with av.open(str(raw)) as source, av.open(str(file), "w") as target:
        stream = target.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 288, 216, "yuvj420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuvj420p")))
        target.mux(stream.encode(None))
    return file


def test_a_damaged_recording_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "w.avi", 40).read_bytes()
    chunks = [place.start() for place in re.finditer(rb"00dc", whole)]  # the first is the name in the header
    damaged, hit = bytearray(whole), chunks[20]
    damaged[hit + 8 : chunks[21] - 8] = bytes(chunks[21] - hit - 16)
    (tmp_path / "d.avi").write_bytes(damaged[: chunks[35] + 8])
    seen, unreadable = seen_in_file(tmp_path / "d.avi", (288, 216))
    assert [each.number for each in seen] == [0, 1, 2, 4, 5, 6, 6, *range(8, 20), *range(21, 35)]
    assert unreadable >= 1


def test_a_folder_of_pictures_is_read_like_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures of it"
    folder.mkdir()
    with av.open(str(recorded(tmp_path / "w.avi", 12))) as film:
        for number, frame in enumerate(film.decode(video=0)):
            frame.to_image().save(folder / f"{number:03}.png")
    assert run_command(["witness", "read", str(folder), "--size", "288x216"]) == 5
    assert "sent 12, seen 10, lost 2 (3, 7), repeated 1 (6), reordered 0, torn 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["read", "no.mkv"], 3, "no.mkv"),
        (["read", "no.mkv", "--size", "big"], 2, "--size"),
        (["play", "phantom:100x80@25"], 2, "at least 288"),
        (["play", BASE, "--rate", "0"], 2, "--rate"),
        (["play", BASE, "--fault", "burn@2"], 2, "burn@2"),
        (["measure", "ffplay"], 2, "{input}"),
        (["measure", "true {input}", "--fault", "burn@2"], 2, "burn@2"),
        (["measure", "true {input}", "--frames", "3", "--fault", "drop@3"], 2, "drop@3"),
        (["measure", "true {input}", "--out", "no/where.json"], 1, "mkdir -p no"),
        (["read", "no.mkv", "--size", "0x0"], 2, "at least 288"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["witness", *words]) == code
    assert said in capsys.readouterr().err


def test_a_receiver_that_goes_away_ends_the_sender_with_code_1(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from endostream.pipeline.cli import main; main()",
        "witness",
        "play",
        BASE,
    ]
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert sender.stdout is not None
    sender.stdout.read(100)
    sender.stdout.close()
    assert sender.wait(60) == 1
    assert sender.stderr is not None
    assert b"receiver has gone" in sender.stderr.read()
    sender.stderr.close()


def test_a_folder_is_no_place_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot be written \(Is a directory\)"):
        open_pipe(str(tmp_path))


def test_a_pipe_that_nobody_opens_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("endostream.pipeline.witness.witness_play._OPEN_TIMEOUT_S", 0.0)
    with pytest.raises(SinkError, match=r"pipe; nobody reads it$"):
        open_pipe(str(tmp_path / "pipe"))
