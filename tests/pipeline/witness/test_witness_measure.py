"""The witness on a real X server: its own error, a player with a known delay, faults on purpose, and our window."""

import json
import shutil
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.cli import run_command
from endostream.pipeline.witness.witness_measure import (
    Measurement,
    WitnessError,
    calibrate,
    measure,
    stamps_of,
    x_display,
)
from endostream.pipeline.witness.witness_play import Slot
from endostream.pipeline.witness.witness_verdict import against_stamps

BASE, SIZE_WH = "phantom:288x216@10", (288, 216)
HELD_MS = 50


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement gets an X server of its own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb here. Try: apt-get install xvfb")
    monkeypatch.delenv("DISPLAY", raising=False)


def player(folder: Path, held_ms: int = 0) -> str:
    """A program that shows what comes, each picture so long after it was read whole."""
    script = folder / "player.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        import numpy as np
        from Xlib import X, display
        width, height = {SIZE_WH}
        d = display.Display(); s = d.screen()
        w = s.root.create_window(30, 20, width, height, 0, s.root_depth, override_redirect=True)
        w.map(); g = w.create_gc(); d.sync()
        with open(sys.argv[1], "rb") as pipe:
            pipe.readline()
            while pipe.readline():
                data = pipe.read(width * height * 3 // 2)
                if len(data) < width * height * 3 // 2:
                    break
                time.sleep({held_ms} / 1000)
                luma = np.frombuffer(data, np.uint8, width * height)
                w.put_image(g, 0, 0, width, height, X.ZPixmap, s.root_depth, 0, np.repeat(luma, 4).tobytes())
                d.sync()
        """)
    )
    return f"{sys.executable} {script} {{input}}"


def test_what_it_says_never_contradicts_when_a_picture_was_put_on_the_screen() -> None:
    result = calibrate(None, 40, 1.0)
    assert result["contradicted"] == []
    assert result["seen"] >= 20
    assert result["error_ms"]["n"] == result["seen"]


def test_a_player_that_holds_every_picture_50_ms_is_found_to_and_faults_are_named(tmp_path: Path) -> None:
    faults = ("repeat@8", "swap@12", "drop@16")
    asked = Measurement(player(tmp_path, HELD_MS), BASE, SIZE_WH, Fraction(10), 22, faults)
    measured = measure(asked)
    late = {slot.slot for slot in measured.slots if slot.cause == "late"}
    whole = [each for each in measured.seen if each.other is None and each.number not in (8, 12, 13)]
    assert whole
    assert min(each.delay_ns + each.error_ns for each in whole) >= HELD_MS * 1e6
    assert 16 in measured.verdict.not_sent
    assert 8 in measured.verdict.repeated or 8 in late
    assert 12 in measured.verdict.reordered or {12, 13} & late


def test_our_own_window_is_measured_like_any_other_and_compared_with_its_stamps(tmp_path: Path) -> None:
    log = tmp_path / "frames.jsonl"
    ours = f"{sys.executable} -c 'from endostream.pipeline.cli import main; main()' live 'pipe:cat {{input}}'"
    ours += f" --segmenter fcm --duration 3 --sink window --sink jsonl:{log} --quiet"
    measured = measure(Measurement(ours, BASE, SIZE_WH, Fraction(10), 40))
    assert measured.verdict.torn == []
    compared = against_stamps(measured.seen, stamps_of(log, measured.slots))
    assert compared["witness_after_stamp_ms"]["n"] >= 10
    assert abs(compared["witness_after_stamp_ms"]["p50"]) < 50  # a frame more or less would be 100 ms


@pytest.mark.parametrize("missed", [0, 1, 3])
def test_stamps_are_those_of_the_same_frame_when_the_first_pictures_were_missed(
    tmp_path: Path, missed: int
) -> None:
    """The log counts from the first picture that was taken; that was once taken for the first that was sent, and the
    witness said to be a whole frame period before our own stamps."""
    slots = [Slot(n, n, None, n * 40_000_000, n * 40_000_000 + 1000) for n in range(12) if n != 5]
    came = [slot for slot in slots[missed:] if slot.number is not None]
    lines = [
        {
            "seq": seq,
            "synthetic": False,
            "capture_ns": slot.code_ns + 3_000_000,
            "present_ns": slot.code_ns + 4_000_000,
        }
        for seq, slot in enumerate(came)
    ]
    lines[4]["capture_ns"] = lines[4]["capture_ns"] + 50_000_000  # it came late, into the time of the next
    (tmp_path / "log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = {slot.number: slot.code_ns + 4_000_000 for slot in came}
    assert stamps_of(tmp_path / "log", slots) == expected


def test_a_log_of_an_earlier_run_is_refused(tmp_path: Path) -> None:
    line = {"seq": 0, "synthetic": False, "capture_ns": 5, "present_ns": 6}
    (tmp_path / "log").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match="of another run"):
        stamps_of(tmp_path / "log", [Slot(0, 0, None, 1000, 1001)])


def test_a_delay_put_into_our_pipeline_on_purpose_is_found_by_the_witness_and_by_our_own_stamps(
    tmp_path: Path,
) -> None:
    log = tmp_path / "frames.jsonl"
    ours = f"{sys.executable} -c 'from endostream.pipeline.cli import main; main()' live 'pipe:cat {{input}}'"
    ours += f" --segmenter fcm --duration 2 --sink window --sink jsonl:{log} --quiet"
    ours += f" --set overlay.added_delay_ms={HELD_MS}"
    measured = measure(Measurement(ours, BASE, SIZE_WH, Fraction(10), 30))
    assert min(each.delay_ns + each.error_ns for each in measured.seen if each.other is None) >= HELD_MS * 1e6
    stamped = [json.loads(line) for line in log.read_text().splitlines()]
    delays = [entry["video_delay_ms"] for entry in stamped if not entry["synthetic"]]
    assert delays
    assert min(delays) >= HELD_MS


def test_a_program_that_shows_nothing_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(WitnessError, match="cannot find it"):
        measure(Measurement("cat {input} > /dev/null; echo cannot find it", BASE, SIZE_WH, Fraction(10), 3))


def test_a_program_that_never_opens_its_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It read "the sender failed", which is ours."""
    complaint = "import sys; sys.exit('endostream: witness: /a/pipe; nobody reads it')"
    monkeypatch.setattr(
        "endostream.pipeline.witness.witness_measure._OUR_COMMAND", (sys.executable, "-c", complaint)
    )
    with pytest.raises(
        WitnessError, match=r"sleep 60 # \{input\}; has not opened its input; expected a program"
    ):
        measure(Measurement("sleep 60 # {input}", BASE, SIZE_WH, Fraction(10), 3))


def test_a_program_that_ends_at_once_ends_the_measurement() -> None:
    with pytest.raises(WitnessError, match="no code was seen"):
        measure(Measurement("true {input}", BASE, SIZE_WH, Fraction(10), 500))


def test_a_program_that_ends_in_the_middle_is_measured_so_far_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = SIZE_WH[0] * SIZE_WH[1] * 3 // 2
    command = f"head -c {6 * size} {{input}} | {player(tmp_path).replace('{input}', '/dev/stdin')}"
    measured = measure(Measurement(command, BASE, SIZE_WH, Fraction(10), 60))
    sent = len(measured.slots)
    assert 5 <= sent < 60
    assert measured.incomplete == f"{command}: it ended with exit code 0 after {sent} of 60 frames"
    words = ["witness", "measure", command, "--source", BASE, "--frames", "60"]
    assert run_command(words) == 1
    told = capsys.readouterr()
    assert told.out.startswith("sent ")
    assert "of 60 frames" in told.err


def test_the_command_prints_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    words = [
        "witness",
        "measure",
        player(tmp_path),
        "--source",
        BASE,
        "--frames",
        "12",
        "--out",
        str(out),
        "--json",
    ]
    assert run_command(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sent"] <= 12
    assert result["seen"] == len({number for number, _, _ in json.loads(out.read_text())["sightings"]})


def test_a_display_that_is_named_is_used_and_a_log_that_is_none_refused(tmp_path: Path) -> None:
    with x_display(":7") as name:
        assert name == ":7"
    (tmp_path / "log").write_text("{}\n")
    with pytest.raises(ConfigError, match="jsonl"):
        stamps_of(tmp_path / "log", [])


def test_a_display_that_is_not_there_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["witness", "calibrate", "--display", ":987"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("endostream: display: :987; expected an X display that can be looked at (")
    assert len(said.splitlines()) == 1
