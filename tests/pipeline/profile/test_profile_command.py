"""The command for real, on a small video: what it writes, that the frame log agrees with the run's own counters, that
budgets and failures set the exit code, and that two profiles can be compared."""

import csv
import json
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from endostream.pipeline.cli import run_command
from endostream.pipeline.sinks.trace_row import COLUMNS

from ..end_to_end import COMMAND, HERE, PATIENCE_S, QUICK, small_video


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


def profile(folder: Path, *arguments: str | Path) -> Done:
    """Run ``endostream profile`` to its end."""
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*COMMAND, "profile", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Made:
    folder: Path
    profile: dict[str, Any]
    rows: list[dict[str, str]]
    done: Done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A profile of two cells, paced and back to back, once each."""
    folder = tmp_path_factory.mktemp("profile")
    arguments = (
        "--segmenter",
        QUICK,
        "--pace",
        "live,back-to-back",
        "--size",
        "200x160",
        "--launcher",
        "threads",
    )
    budgets = ("--budget", "video_delay.max=100s", "--budget", "video_delay.max=0ms")
    length = ("--first-frames", "--duration", "2", "--repeats", "1", "--out", "made")
    done = profile(folder, small_video(folder), *arguments, *length, *budgets)
    with (folder / "made/frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Made(folder / "made", json.loads((folder / "made/profile.json").read_text()), rows, done)


def test_a_broken_budget_is_exit_code_five_and_a_line(made: Made) -> None:
    assert made.done.code == 5
    said = [line for line in made.done.stderr.splitlines() if "budget" in line]
    assert [line.startswith("budget kept: video_delay.max in") for line in said] == [True, True, False, False]
    assert all(
        line.startswith("endostream: budget broken: video_delay.max in") and "limit 0 ms, measured " in line
        for line in said[2:]
    )
    assert [verdict["kept"] for verdict in made.profile["budgets"]] == [True, True, False, False]


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (
            ["phantom:", "--out", "{out}"],
            "budget: 'videodelay.p99=5ms'; expected SERIES one of annotation_delay, ",
        ),
        (["check", "{made}"], "budget: 'videodelay.p99=5ms'; expected SERIES one of annotation_delay, "),
        (["compare", "{made}", "{made}"], "budget: 'videodelay.p99=5ms'; expected SERIES one of "),
    ],
)
def test_a_misspelt_budget_is_refused_before_anything_runs_with_the_nearest_name(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], begin: str
) -> None:
    places = {"out": str(tmp_path / "p"), "made": str(made.folder)}
    given = ["profile", *(word.format(**places) for word in words), "--budget", "videodelay.p99=5ms"]
    assert run_command(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"endostream: {begin}")
    assert line.endswith(". Try: --budget video_delay.p99=5ms")
    assert not (tmp_path / "p").exists()


def test_a_budget_of_the_witness_needs_a_cell_of_the_witness(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["profile", "check", str(made.folder), "--budget", "witness.delay.p99=5ms"]) == 2
    assert capsys.readouterr().err.endswith("Try: --external COMMAND\n")


def test_everything_is_written_and_nothing_else(made: Made) -> None:
    assert {path.name for path in made.folder.iterdir()} == {
        "profile.json",
        "profile.html",
        "frames.csv",
        "frames.parquet",
        "trace.json",
    }
    assert json.loads((made.folder / "trace.json").read_text())["traceEvents"]
    assert "back-to-back" in (made.folder / "profile.html").read_text()


def test_the_cells_say_what_was_run(made: Made) -> None:
    settings = [cell["settings"] for cell in made.profile["cells"]]
    assert [one["pace"] for one in settings] == ["live", "back-to-back"]
    for one in settings:
        assert (one["segmenter"], one["size"], one["fps"], one["launcher"]) == (
            QUICK,
            [200, 160],
            25.0,
            "threads",
        )
        assert one["decoded_beforehand"] is True
    assert [cell["status"] for cell in made.profile["cells"]] == ["done", "done"]


def test_the_frame_log_agrees_with_the_counters_of_the_run(made: Made) -> None:
    for cell in made.profile["cells"]:
        (run,) = cell["runs"]
        rows = [row for row in made.rows if row["cell"] == cell["name"]]
        frames = run["report"]["frames"]
        events = Counter(dict.fromkeys(("presented", "dropped", "not_logged"), 0))
        for row in rows:
            events[row["event"]] += int(row["frames"])
        assert events["presented"] == frames["presented"] == run["whole"]["presented"]
        assert events["dropped"] == sum(frames["dropped"].values())
        assert events["not_logged"] == 0
        states = Counter(row["state"] for row in rows if row["event"] == "presented")
        assert dict(states) == {state: n for state, n in run["report"]["mask_state"].items() if n}
        masks = sum(row["first_shown"] == "1" for row in rows)
        assert masks == run["report"]["masks"]["presented"]


def test_delays_worked_out_of_the_log_are_those_of_the_report(made: Made) -> None:
    for cell in made.profile["cells"]:
        report = cell["runs"][0]["report"]
        for name, key in (("video_delay", "video_delay_ms"), ("annotation_delay", "annotation_delay_ms")):
            ours = {
                figure: cell["series"][name][figure] for figure in ("n", "p50", "p90", "p99", "p99_9", "max")
            }
            assert ours == report[key]


def test_the_stamps_of_each_frame_and_its_mask_are_in_order(made: Made) -> None:
    video = ("due_ns", "capture_ns", "overlay_received_ns", "overlay_done_ns")
    mask = ("mask_capture_ns", "preprocess_received_ns", "preprocess_done_ns", "infer_received_ns")
    mask += ("infer_done_ns", "mask_received_ns", "mask_ready_ns", "overlay_received_ns")
    for row in made.rows:
        if row["event"] != "presented":
            continue
        orders = [video, mask] if row["first_shown"] == "1" else [video]
        for order in orders:
            stamps = [int(row[column]) for column in order]
            assert stamps == sorted(stamps), row
        assert row["overlay_done_ns"] == row["present_ns"]


def test_only_a_paced_cell_has_lateness_and_deadlines(made: Made) -> None:
    paced, unpaced = made.profile["cells"]
    assert ("release_lateness" in paced["series"], "release_lateness" in unpaced["series"]) == (True, False)
    assert (paced["period_ms"], unpaced["period_ms"]) == (40.0, None)
    assert unpaced["counted"]["deadline_misses"] is None


def test_parquet_holds_the_same_rows(made: Made) -> None:
    table = pyarrow.parquet.read_table(made.folder / "frames.parquet")
    assert table.column_names == ["cell", "repeat", "counted", *COLUMNS]
    assert [str(seq) for seq in table["seq"].to_pylist()] == [row["seq"] for row in made.rows]
    assert table["state"].to_pylist() == [row["state"] for row in made.rows]


def test_two_profiles_are_compared_and_a_regression_is_exit_code_five(made: Made, tmp_path: Path) -> None:
    slower = json.loads((made.folder / "profile.json").read_text())
    for cell in slower["cells"]:
        series = cell["series"]["video_delay"]
        series["p50"] += 3.0
        series["draws"]["p50"] = [one + 3.0 for one in series["draws"]["p50"]]
    (tmp_path / "b.json").write_text(json.dumps(slower))
    page = tmp_path / "page.html"
    arguments = ("compare", made.folder, tmp_path / "b.json", "--json", "--html", page)
    done = profile(tmp_path, *arguments, "--budget", "video_delay.p50=2ms")
    assert done.code == 5
    found = json.loads(done.stdout)
    changed = [one for one in found["changes"] if one["verdict"] == "slower"]
    assert {(one["series"], one["figure"], one["difference"]) for one in changed} == {
        ("video_delay", "p50", 3.0)
    }
    assert (found["caveats"], found["alone"]) == ([], [])
    assert "limit 2 ms, measured 3 ms" in done.stderr
    assert "<svg" in page.read_text()
    assert profile(tmp_path, *arguments, "--budget", "video_delay.p50=4ms").code == 0


def test_the_report_of_any_run_is_held_to_budgets(made: Made, tmp_path: Path) -> None:
    report = made.profile["cells"][0]["runs"][0]["report"]
    report |= {"sources": [{"address": "clip.avi"}]}
    (tmp_path / "r.json").write_text(json.dumps(report))
    p99 = report["video_delay_ms"]["p99"]
    kept = profile(
        tmp_path, "check", "r.json", "--budget", f"video_delay.p99={p99}ms", "--budget", "dropped=100"
    )
    assert kept.code == 0, kept.stderr
    broken = profile(
        tmp_path, "check", "r.json", "--budget", "infer.service.p50=0us", "--budget", "first_mask=1s"
    )
    assert broken.code == 5
    assert [line.split(";")[0] for line in broken.stderr.splitlines()] == [
        f"endostream: budget broken: infer.service.p50 in clip.avi, {QUICK}, live",
        f"endostream: budget broken: first_mask in clip.avi, {QUICK}, live",
    ]
    assert profile(tmp_path, "check", made.folder, "--budget", "video_delay.max=100s").code == 0


def test_a_cell_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    segmenters = f"{QUICK},nosuch:Segmenter"
    arguments = ("--segmenter", segmenters, "--duration", "0.5", "--repeats", "1", "--launcher", "threads")
    done = profile(tmp_path, small_video(tmp_path), *arguments, "--first-frames", "--out", "o", "--quiet")
    made = json.loads((tmp_path / "o/profile.json").read_text())
    assert [cell["status"] for cell in made["cells"]] == ["done", "failed"]
    assert made["cells"][0]["counted"]["presented"] > 0
    assert done.code == made["cells"][1]["runs"][0]["exit_code"] != 0
    assert "nosuch" in done.stderr
    assert done.stdout == ""


def test_a_run_that_a_signal_ended_is_told_and_the_command_ends_with_exit_code_1(tmp_path: Path) -> None:
    arguments = ("--segmenter", "nasty_segmenters:Crashing", "--duration", "1", "--repeats", "1", "--quiet")
    video = small_video(tmp_path)
    done = profile(tmp_path, video, *arguments, "--launcher", "threads", "--first-frames", "--out", "o")
    assert done.code == 1
    assert f"run 1 of {video}, nasty_segmenters:Crashing, live, threads: exit code -11" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "profile: no source. Try: endostream profile phantom:"),
        (("none.avi",), 3, "source: none.avi; no such file or folder"),
        (("phantom:", "--size", "big"), 2, "size: 'big'; expected WIDTHxHEIGHT"),
        (("phantom:", "--budget", "speed=1"), 2, "budget: 'speed=1'; expected SERIES.FIGURE=LIMIT"),
        (("phantom:", "--segmenter", "fcm,nix"), 2, "segmenter: 'nix'; expected one of fcm"),
        (("phantom:", "--duration", "inf"), 2, "Invalid value for '--duration': Input should be less than"),
        (("phantom:", "--runtime", "abacus"), 2, "runtime: 'abacus'; expected"),
        (("phantom:", "--sink", "foo:bar"), 2, "sink: 'foo:bar'; expected KIND[:PATH]"),
        (("phantom:", "--config", "none.yaml"), 2, "config: none.yaml; cannot be read"),
        (
            ("phantom:", "--set", "replay.speed=fastest"),
            2,
            "--set: replay.speed; is set for each cell. Try: --pace",
        ),
        (("compare", "none.json", "none.json"), 2, "profile: none.json; cannot be read"),
        (("report", "--source", "phantom:", "--cfr", "no/r.html"), 1, "cfr: no/r.html; cannot be written"),
        (("check", "none.json"), 2, "check: no budget. Try: --budget video_delay.p99=5.75ms"),
        (("check", "none.json", "--budget", "dropped=0"), 2, "check: none.json; cannot be read"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = profile(tmp_path, *arguments)
    assert (done.code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"endostream: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_profile_or_report_that_is_not_whole_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"video_delay_ms": None, "frames": {}}))
    (tmp_path / "p.json").write_text(json.dumps({"kind": "endostream-profile", "schema": 1}))
    for name, said in (("r.json", "expected a whole report"), ("p.json", "expected a whole one")):
        done = profile(tmp_path, "check", name, "--budget", "dropped=0")
        assert (done.code, done.stdout) == (2, "")
        assert said in done.stderr


def test_a_report_of_what_is_no_video_ends_with_the_exit_code_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.avi").write_text("no video")
    done = profile(tmp_path, "report", "--source", "notes.avi", "--cfr", "r.html")
    assert done.code == 3
    assert done.stderr.endswith("endostream: profile: notes.avi; a run ended with exit code 3, expected 0\n")
    assert not (tmp_path / "r.html").exists()


def test_help_of_the_command_names_the_subcommands(tmp_path: Path) -> None:
    text = profile(tmp_path, "--help").stdout
    for word in ("--warm-up", "--first-frames", "--budget", "profile compare A B"):
        assert word in text
