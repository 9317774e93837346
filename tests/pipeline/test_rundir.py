"""The run directory: private, swept of the dead, never of the living, and refused where it is not ours."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from endostream.configs.errors import EndostreamError
from endostream.pipeline.rundir import RunDirectory, base_directory, sweep

RUN = "from endostream.pipeline.rundir import RunDirectory as R; r = R(); print(r.path, flush=True); input()"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short, private XDG_RUNTIME_DIR."""
    with tempfile.TemporaryDirectory(prefix="es-", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_base_and_run_folder_are_private_to_the_user(runtime: Path) -> None:
    old = os.umask(0)
    try:
        with RunDirectory() as run:
            assert run.path.parent == runtime / "endostream"
            assert (mode_of(run.path), mode_of(run.path.parent)) == (0o700, 0o700)
    finally:
        os.umask(old)


def test_a_base_folder_that_is_open_to_others_is_closed_to_them(runtime: Path) -> None:
    (runtime / "endostream").mkdir(mode=0o777)
    assert mode_of(base_directory()) == 0o700


def test_a_run_leaves_nothing_behind(runtime: Path) -> None:
    with RunDirectory() as run:
        (run.path / "capture-overlay").write_bytes(b"")
    assert [path.name for path in (runtime / "endostream").iterdir()] == ["lock"]


def test_two_runs_at_a_time_keep_out_of_each_others_way(runtime: Path) -> None:
    with RunDirectory() as first:
        with RunDirectory() as second:
            assert first.path != second.path
            assert first.path.is_dir()
        assert first.path.is_dir()
        assert not second.path.exists()


def test_a_killed_run_is_swept_by_the_next_and_a_living_one_is_not(runtime: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        folders = []
        for run in runs:
            assert run.stdout is not None
            folders.append(Path(run.stdout.readline().strip()))
        (folders[0] / "infer-overlay").write_bytes(b"")
        runs[0].send_signal(signal.SIGKILL)
        runs[0].wait(10)
        assert folders[0].is_dir()
        with RunDirectory():
            assert not folders[0].exists()
            assert folders[1].is_dir()
    finally:
        for run in runs:
            run.kill()
            run.communicate(timeout=10)


def test_sweeping_counts_what_it_removed(runtime: Path) -> None:
    base = base_directory()
    for name in ("run-a", "run-b"):
        (base / name).mkdir()
    (base / "run-b" / "lock").write_bytes(b"")
    (base / "something-else").mkdir()
    assert sweep(base) == 2
    assert [path.name for path in base.iterdir()] == ["something-else"]


def test_a_locked_folder_is_never_swept(runtime: Path) -> None:
    base = base_directory()
    (base / "run-a").mkdir()
    with (base / "run-a" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(base) == 0
    assert sweep(base) == 1


def test_a_symbolic_link_in_the_place_of_the_base_is_refused(runtime: Path) -> None:
    elsewhere = runtime / "elsewhere"
    elsewhere.mkdir()
    (runtime / "endostream").symlink_to(elsewhere)
    with pytest.raises(
        EndostreamError, match=r"run directory: .*; expected a folder of this user. Try: remove"
    ):
        base_directory()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_something_else_in_the_place_of_the_base_is_refused_in_one_line(runtime: Path, what: str) -> None:
    if what == "file":
        (runtime / "endostream").write_bytes(b"")
    else:
        (runtime / "endostream").symlink_to(runtime / "nowhere")
    with pytest.raises(EndostreamError, match=r"run directory: .*; expected a folder of this user"):
        base_directory()


def test_a_folder_of_another_user_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_directory()
    own = os.getuid()
    monkeypatch.setattr("endostream.pipeline.rundir.os.getuid", lambda: own + 1)
    with pytest.raises(EndostreamError, match="expected a folder of this user"):
        base_directory()


def test_without_a_runtime_folder_the_temporary_one_is_used(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("endostream.pipeline.rundir.tempfile.gettempdir", lambda: str(runtime))
    assert base_directory() == runtime / f"endostream-{os.getuid()}"


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_sockets_fit_into_the_folder_however_long_the_users_paths_are(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    # A socket's path may have 107 bytes; with a longer one no stage could bind, three times in a row.
    long = runtime / ("x" * 90)
    long.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    if variable == "TMPDIR":
        monkeypatch.setattr("endostream.pipeline.rundir.tempfile.gettempdir", lambda: str(long))
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        monkeypatch.setattr("endostream.pipeline.rundir.tempfile.gettempdir", lambda: str(runtime))
    with RunDirectory() as run:
        assert len(str(run.path / "capture-preprocess")) <= 107


def test_a_runtime_folder_that_cannot_be_written_is_passed_over(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "is-not-there"))
    monkeypatch.setattr("endostream.pipeline.rundir.tempfile.gettempdir", lambda: str(runtime))
    assert base_directory() == runtime / f"endostream-{os.getuid()}"
