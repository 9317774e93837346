"""The frame log of real runs: what was lost at the source, or with a stage that was killed, stands in it, and every
frame stands in it once."""

import csv
from collections import Counter
from pathlib import Path

from ..end_to_end import Run, play, small_video


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "t.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["event"] != "synthetic"]


def frames_by_cause(rows: list[dict[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        found[row["cause"] if row["event"] == "dropped" else row["event"]] += int(row["frames"])
    return found


def seqs_of(rows: list[dict[str, str]]) -> list[int]:
    """Every frame of every row."""
    return sorted(seq for row in rows for seq in range(int(row["seq"]), int(row["seq"]) + int(row["frames"])))


def test_frames_lost_at_the_source_are_as_many_as_the_report_says(tmp_path: Path) -> None:
    faults = ("--set", "replay.faults.lose=0.3", "--set", "replay.faults.seed=3")
    ended = play(tmp_path, small_video(tmp_path), *faults, "--sink", f"trace:{tmp_path / 't.csv'}", log=False)
    assert ended.code == 0, ended.stderr
    rows = rows_of(tmp_path)
    lost = ended.report["sources"][0]["faults"]["lost_at_source"]
    assert lost > 0
    assert frames_by_cause(rows)["lost_at_source"] == lost
    # On a loaded machine record may not listen yet when the first frame is presented.
    shown = frames_by_cause(rows)["presented"] + frames_by_cause(rows)["not_logged"]
    assert shown == ended.report["frames"]["presented"]
    assert seqs_of(rows) == list(range(seqs_of(rows)[-1] + 1))


def test_with_the_display_killed_every_frame_stands_in_the_log_once(tmp_path: Path) -> None:
    video = small_video(tmp_path, frames=100)
    trace = f"trace:{tmp_path / 't.csv'}"
    with Run(tmp_path, video, "--sink", trace) as run:
        run.wait_for_frames(25)
        gone = run.kill("overlay")
        run.wait_for_return_of("overlay", gone)
        ended = run.end()
    rows = rows_of(tmp_path)
    assert seqs_of(rows) == list(range(seqs_of(rows)[-1] + 1))
    found = frames_by_cause(rows)
    assert found["presented"] + found["not_logged"] >= ended.report["frames"]["presented"] - 1
    assert found["presented"] <= ended.report["frames"]["presented"]
