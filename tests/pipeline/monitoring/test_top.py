"""``endostream top`` as it is typed: one run, several, none, one that ends while it is watched, scripts, a terminal."""

import fcntl
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.cli import run_command
from endostream.pipeline.monitoring.runs import find_run, live_runs
from endostream.pipeline.monitoring.top import RunWatch

from ..end_to_end import COMMAND, PATIENCE_S, Run
from .run_records import FakeRun, record_at, set_cells, supervisor_of


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run directories of this user lie."""
    short = Path("/tmp") / f"eo-{os.getpid()}-{abs(hash(tmp_path.name)) % 100_000}"
    short.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    yield_path = short / "endostream"
    yield_path.mkdir()
    return yield_path


@pytest.fixture(autouse=True)
def _clean(base: Path) -> Iterator[None]:
    yield
    shutil.rmtree(base.parent)


TERMINAL = {"TERM": "xterm", "COLUMNS": "130", "LINES": "60"}


def fake(base: Path, name: str, run_id: str, uptime_s: float = 1.0) -> FakeRun:
    supervisor = supervisor_of()
    set_cells(supervisor.board, {"overlay.presented": 25})
    record = record_at(supervisor, 1.0)
    record["run"] |= {"id": run_id, "uptime_s": uptime_s, "pid": 4000 + int(uptime_s)}
    return FakeRun(base, name, record)


def test_without_a_run_the_message_says_so_and_the_code_is_3(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["top"], ["top", "--list"], ["top", "--once", "--json"]):
        assert run_command(arguments) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"endostream: run: none is alive in {base}; expected one. Try: ")


def test_runs_are_found_newest_first_and_dead_ones_left_alone(base: Path) -> None:
    (base / "run-dead").mkdir()
    with fake(base, "run-a", "aaa1", 9.0), fake(base, "run-b", "bbb2", 2.0):
        assert [run.run_id for run in live_runs()] == ["bbb2", "aaa1"]
    assert (base / "run-dead").is_dir()


def test_a_run_is_meant_by_its_id_its_process_or_its_folder(base: Path) -> None:
    with fake(base, "run-a", "aab1", 9.0) as one, fake(base, "run-b", "aac2", 2.0):
        for wanted in ("aab1", "aab", "4009", "run-a", str(one.directory)):
            assert find_run(wanted).directory == one.directory
        with pytest.raises(SourceMissing, match=r"run: 'x'; expected one that is alive \(aac2, aab1\)\."):
            find_run("x")
        with pytest.raises(
            ConfigError, match=r"run: 'aa'; expected one of aac2, aab1\. Try: endostream top aac2"
        ):
            find_run("aa")
    with pytest.raises(SourceLost):
        find_run(str(one.directory))


def test_several_runs_are_listed_and_a_script_is_told_to_choose(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake(base, "run-a", "aaa1", 9.0), fake(base, "run-b", "bbb2", 2.0):
        assert run_command(["top"]) == 0
        listed = capsys.readouterr().out
        assert "aaa1" in listed and "bbb2" in listed and "Try: endostream top bbb2" in listed
        assert run_command(["top", "--once", "--json"]) == 2
        assert "run: several are alive (bbb2, aaa1); expected one." in capsys.readouterr().err
        assert run_command(["top", "--list", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    assert [run["run"]["id"] for run in told["runs"]] == ["bbb2", "aaa1"]
    assert told["runs"][0]["directory"] == str(base / "run-b")


def test_a_script_gets_the_record_and_the_rates(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake(base, "run-a", "aaa1"):
        assert run_command(["top", "--once", "--json", "--interval", "0.1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["run"]["id"], told["frames"]["presented"]) == (1, "aaa1", 25)
    assert set(told["recent"]) >= {"seconds", "presented_fps", "delays", "stages", "links", "sinks"}


@pytest.mark.parametrize("options", [["--once"], ["--json"]])
def test_a_run_that_ends_between_two_looks_is_said_to_have_ended(
    base: Path, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said to give no answer ([Errno 2] No such file or directory)."""
    with fake(base, "run-a", "aaa1") as run:

        def end(_: float) -> None:
            shutil.rmtree(run.directory)

        monkeypatch.setattr("endostream.pipeline.monitoring.top.time.sleep", end)
        assert run_command(["top", *options]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "endostream: run: aaa1; has ended within the 1 s that were to be measured; expected"
    )


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_an_interval_that_makes_no_sense_is_a_mistake_of_usage(
    interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["top", "--interval", interval]) == 2
    assert "--interval: " in capsys.readouterr().err


def test_a_watch_says_that_its_run_has_ended_and_keeps_what_it_knew(base: Path) -> None:
    with fake(base, "run-a", "aaa1") as run:
        watch = RunWatch(run.directory, run.record)
        watch.look()
        assert (watch.ended, watch.silent) == ("", "")
        run.record["run"]["status"] = "ended"
        watch.look()
        assert watch.ended == "has ended"
    shutil.rmtree(run.directory)
    watch.look()
    assert watch.ended == "has ended"
    assert watch._records[-1]["run"]["id"] == "aaa1"


def test_a_run_that_is_late_is_watched_on_and_one_that_was_killed_is_not(base: Path) -> None:
    """It once ended watching at the first answer that took two seconds, on a machine under load."""
    with fake(base, "run-a", "aaa1") as run:
        watch = RunWatch(run.directory, run.record)
    with (run.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        watch.look()
        assert (watch.ended, watch.silent) == ("", "gives no answer")
    watch.look()
    assert watch.ended == "was killed"


def test_a_watch_forgets_what_is_older_than_ten_seconds(base: Path) -> None:
    with fake(base, "run-a", "aaa1") as run:
        watch = RunWatch(run.directory, run.record)
        for at_s in range(2, 31):
            run.record["at_ns"] = at_s * 10**9
            watch.look()
    assert [record["at_ns"] // 10**9 for record in watch._records] == list(range(20, 31))


def read_terminal(process: subprocess.Popen[bytes], terminal: int, until: bytes) -> bytes:
    """What was written on the terminal until that comes, or until the program is gone."""
    seen, deadline_s = b"", time.monotonic() + PATIENCE_S
    while until not in seen and time.monotonic() < deadline_s:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65_536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    return seen


def test_on_a_terminal_it_watches_a_real_run_until_q(tmp_path: Path) -> None:
    source = ("phantom:160x120@25", "--set", "phantom.duration_s=3600", "--speed", "realtime")
    ours, theirs = pty.openpty()
    with Run(tmp_path, *source) as run:
        run.wait_for_frames(5)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(run.runtime), **TERMINAL}
        command = [*COMMAND, "top", "--interval", "0.2"]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as top:
            os.close(theirs)
            seen = read_terminal(top, ours, b"capture-preprocess")
            assert b"phantom:160x120@25" in seen and b"running" in seen
            os.write(ours, b"q")
            read_terminal(top, ours, b"no such words")
            assert top.wait(PATIENCE_S) == 0
        assert run.process.poll() is None  # watching is over, the run is not
    os.close(ours)


def test_watching_ends_with_the_run_and_says_so(tmp_path: Path) -> None:
    source = ("phantom:160x120@25", "--set", "phantom.duration_s=3600", "--speed", "realtime")
    ours, theirs = pty.openpty()
    with Run(tmp_path, *source) as run:
        run.wait_for_frames(5)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(run.runtime), **TERMINAL}
        with subprocess.Popen(
            [*COMMAND, "top", "--interval", "0.2"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        ) as top:
            os.close(theirs)
            read_terminal(top, ours, b"capture-preprocess")
            run.send(2)
            assert b"has ended" in read_terminal(top, ours, b"has ended")
            read_terminal(top, ours, b"no such words")
            assert top.wait(PATIENCE_S) == 0
        assert run.end().code == 130
    os.close(ours)


def test_help_loads_nothing_of_it() -> None:
    code = "import sys; from endostream.pipeline import cli; print('endostream.pipeline.monitoring.top' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
