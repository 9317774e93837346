"""Where a profile ends up: it replaces an earlier one only if it is whole, and leaves nothing else behind."""

import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.pipeline.profile import profiler
from endostream.pipeline.profile.cell_run import Ran
from endostream.pipeline.profile.external import ExternalCell
from endostream.pipeline.profile.frame_log import Span
from endostream.pipeline.profile.measure import Window, measure_rows
from endostream.pipeline.profile.out_folder import fresh_folder, put_in_place
from endostream.pipeline.profile.profiler import Made, ProfileRequest, make_profile
from endostream.pipeline.profile.result import RunResult, read_profile

CELL = ExternalCell("player {input}", "phantom:", (64, 48), Fraction(25))


def result(exit_code: int) -> RunResult:
    measured = measure_rows([], Span(0, 0), Window(0.0, None, True))
    return RunResult(measured, {"repeat": 1, "command": ["player"], "exit_code": exit_code, "errors": ""})


def make(
    out: Path, monkeypatch: pytest.MonkeyPatch, *exit_codes: int | None, said: list[str] | None = None
) -> Made:
    """A profile of one program, whose runs end like this; None: somebody interrupts us."""
    codes = iter(exit_codes)

    def run(*_: Any) -> RunResult:
        code = next(codes)
        if code is None:
            raise KeyboardInterrupt
        return result(code)

    monkeypatch.setattr(profiler, "run_external", run)
    request = ProfileRequest([], out, [CELL], repeats=len(exit_codes))
    return make_profile(request, ([] if said is None else said).append)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_profile_that_failed_leaves_the_earlier_one_and_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = make(tmp_path, monkeypatch, 0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said: list[str] = []
    made = make(tmp_path, monkeypatch, 0, 1, said=said)
    assert (earlier.folder, made.folder, made.exit_code) == (tmp_path, tmp_path / "unfinished", 1)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert names(tmp_path) == {*before, "unfinished"}
    assert names(made.folder) == before.keys()
    assert [cell["status"] for cell in read_profile(made.folder)["cells"]] == ["failed"]
    assert said[-1] == (
        f"unfinished: what there is lies in {made.folder}; the earlier profile in {tmp_path} stays"
    )


def test_what_an_interrupted_profile_has_is_written_and_the_earlier_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, monkeypatch, 0)
    before = (tmp_path / "profile.json").read_bytes()
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, monkeypatch, 0, 0, None, said=said)
    assert (tmp_path / "profile.json").read_bytes() == before
    assert [len(cell["runs"]) for cell in read_profile(tmp_path / "unfinished")["cells"]] == [2]
    assert said[-2] == "interrupted: what is there so far is written"
    assert said[-1].startswith(f"unfinished: what there is lies in {tmp_path / 'unfinished'}; ")


def test_without_an_earlier_one_what_there_is_lies_where_it_was_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path / "new", monkeypatch, 1)
    assert made.folder == tmp_path / "new"
    assert "profile.json" in names(made.folder) and "unfinished" not in names(made.folder)


def test_a_whole_profile_replaces_every_file_of_an_earlier_one(tmp_path: Path) -> None:
    for name in ("profile.json", "frames.parquet", "notes.txt"):
        (tmp_path / name).write_text("old")
    with fresh_folder(tmp_path) as fresh:
        (fresh / "profile.json").write_text("new")
        assert put_in_place(fresh, tmp_path, whole=True) == tmp_path
    assert names(tmp_path) == {"profile.json", "notes.txt"}
    assert (tmp_path / "profile.json").read_text() == "new"


def write_on_a_full_disk(out: Path) -> None:
    with fresh_folder(out) as fresh:
        (fresh / "frames.csv").write_text("begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_what_was_begun_goes(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text("old")
    with pytest.raises(SinkError, match=r"out: .*; cannot be written \(no space left on device\)"):
        write_on_a_full_disk(tmp_path)
    assert names(tmp_path) == {"profile.json"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"out: .*file; cannot be written in \(file exists\)\. Try: --out DIR"
    with pytest.raises(SinkError, match=message), fresh_folder(tmp_path / "file"):
        pass


def test_a_run_that_failed_before_its_log_could_be_written_has_no_figures(tmp_path: Path) -> None:
    log, window = tmp_path / "frames.csv", Window(0.0, None, True)
    log.write_text("")  # as a full disk leaves it
    assert profiler._measured(Ran([], 1, 0, {}, log, [], ""), window).digest.series == {}
    with pytest.raises(ConfigError, match="frame log: "):
        profiler._measured(Ran([], 0, 0, {}, log, [], ""), window)
