"""The log: lines of text as ever, or one JSON object a line for everything that is said, from start to end."""

import contextlib
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from endostream.pipeline import log_lines
from endostream.pipeline.cli import run_command

from .end_to_end import COMMAND, PATIENCE_S, Run, small_video


@pytest.fixture(autouse=True)
def text_afterwards() -> None:
    log_lines.set_up("text")


def test_text_is_the_message_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.logger.warning("capture: %s", "gone")
    log_lines.logger.info("here")
    assert capsys.readouterr().err == "capture: gone\nhere\n"


def test_json_is_one_object_a_line_with_time_stage_event_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.set_up("json")
    log_lines.name_run("abc")
    log_lines.logger.warning("infer: killed\nby ✂ \x1b[0m")
    log_lines.logger.error("no port", extra={"event": "failed", "fields": {"exit_code": 2}})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert datetime.fromisoformat(first.pop("time")).utcoffset() is not None
    assert first.pop("monotonic_ns") > 0
    assert first == {
        "level": "warning",
        "stage": "infer",
        "event": "note",
        "message": "infer: killed\nby ✂ \x1b[0m",
        "run": "abc",
    }
    assert (second["stage"], second["event"], second["exit_code"]) == ("supervisor", "failed", 2)


def test_setting_up_twice_says_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.set_up("json")
    log_lines.set_up("text")
    log_lines.logger.warning("once")
    assert capsys.readouterr().err == "once\n"


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.set_up("auto")
    assert log_lines.is_json()


def test_a_log_that_nobody_reads_any_more_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log_lines.logger.warning("into the void")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.close()
    assert logging.raiseExceptions


@pytest.mark.parametrize(
    "arguments", [["replay", "--log-format", "json", "no.avi"], ["live", "--log-format=json", "nowhere"]]
)
def test_mistakes_on_the_command_line_are_json_too_where_that_is_asked_for(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(arguments)
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["event"], line["exit_code"]) == ("error", "failed", code)
    assert line["run"] is None


def test_an_unknown_format_is_a_mistake_told_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["replay", "phantom:", "--log-format", "xml"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("endostream: log.format: 'xml' (--log-format); expected one of auto, text, json")
    assert err.count("\n") == 1


def test_what_a_stages_libraries_write_on_stderr_is_logged_line_by_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_lines.set_up("json")
    command = [sys.executable, "-c", "import os; os.write(2, b'one\\n\\n\\xfftwo')"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        log_lines.log_what_is_said("infer", process.stderr).join(PATIENCE_S)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["infer: one", "infer: \ufffdtwo"]
    assert {(line["stage"], line["event"]) for line in lines} == {("infer", "stderr")}


def test_on_a_terminal_no_progress_bar_comes_between_the_objects(tmp_path: Path) -> None:
    reading, terminal = pty.openpty()
    command = [*COMMAND, "replay", str(small_video(tmp_path, 10)), "--log-format", "json"]
    with subprocess.Popen(
        [*command, "--segmenter", "fcm"], stdout=subprocess.DEVNULL, stderr=terminal
    ) as run:
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while chunk := os.read(reading, 4096):
                said += chunk
        os.close(reading)
        assert run.wait(PATIENCE_S) == 0
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert (events[0], events[-1]) == ("begin", "end")


def test_every_line_of_a_run_with_a_killed_stage_is_json_with_the_runs_id(tmp_path: Path) -> None:
    arguments = ("--loop", "0", "--log-format", "json", "--metrics", "127.0.0.1:0")
    with Run(tmp_path, small_video(tmp_path), *arguments) as run:
        run.wait_for_frames(3, "fresh")
        gone = run.pid("preprocess")
        run.kill("preprocess")
        run.wait_for_return_of("preprocess", gone)
        run.wait_for(lambda: "is back" in run.stderr, "the word of it")
        run.send(signal.SIGINT)
        ended = run.end()
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["run"] for line in lines} == {ended.report["run_id"]}
    assert [line["message"] for line in lines if line["stage"] == "preprocess"] == [
        "preprocess: killed by SIGKILL; starts again in 0.05 s",
        "preprocess: is back",
    ]
    assert [line["event"] for line in lines if line["stage"] == "preprocess"] == ["stage_down", "stage_back"]
    assert (lines[0]["event"], lines[-1]["event"]) == ("begin", "end")
    assert (lines[-1]["exit_code"], lines[-1]["restarts"]["preprocess"]) == (130, 1)
