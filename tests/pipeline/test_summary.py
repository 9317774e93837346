"""The summary over several videos: shares and delays by source, CSV for a spreadsheet, a table."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from endostream.configs.errors import SinkError
from endostream.pipeline.histogram import SeriesMs
from endostream.pipeline.report import SourceTotals
from endostream.pipeline.summary import COLUMNS, print_summary, summary_csv, summary_rows, write_summary

SERIES: SeriesMs = {"n": 8, "p50": 0.9, "p90": 1.2, "p99": 2.25, "p99_9": 3.5, "max": 4.0}
POLYP = SourceTotals(
    address="polyps/a, [1].avi",
    captured=10,
    presented=8,
    positive=2,
    dropped={"overwritten": 1, "torn": 1},
    mask_state={"fresh": 5, "held": 1, "failed": 2},
    video_delay_ms=SERIES,
    faults={"corrupt_packet": 3},
)
MISSING = SourceTotals(address="b.avi", status="missing")


def test_shares_are_of_the_presented_frames() -> None:
    row = summary_rows([POLYP])[0]
    assert tuple(row) == COLUMNS
    shares = [row[f"{state}_share"] for state in ("fresh", "held", "stale", "absent", "failed")]
    assert shares == [0.625, 0.125, 0.0, 0.0, 0.25]
    assert (row["positive_share"], row["dropped"], row["faults"]) == (0.25, 2, 3)


def test_what_was_not_measured_is_none_and_not_zero() -> None:
    row = summary_rows([MISSING])[0]
    assert (row["status"], row["presented"]) == ("missing", 0)
    assert [row[name] for name in ("video_delay_p50_ms", "fresh_share", "positive_share")] == [None] * 3


def test_the_csv_reads_back_with_empty_cells_for_none() -> None:
    read = list(csv.DictReader(io.StringIO(summary_csv(summary_rows([POLYP, MISSING])), newline="")))
    assert [row["source"] for row in read] == ["polyps/a, [1].avi", "b.avi"]
    assert (read[0]["video_delay_p99_ms"], read[0]["annotation_delay_p50_ms"]) == ("2.25", "")
    assert (read[1]["fresh_share"], read[1]["captured"]) == ("", "0")


def test_the_written_file_has_one_line_end_a_row(tmp_path: Path) -> None:
    write_summary(tmp_path / "s.csv", summary_rows([POLYP, MISSING]))
    content = (tmp_path / "s.csv").read_bytes()
    assert content.count(b"\r\n") == 3 and b"\r\r" not in content


def test_a_summary_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"summary: .*; cannot be written \(no such file or directory\)"):
        write_summary(tmp_path / "no" / "s.csv", [])


def test_the_table_has_a_line_for_each_video() -> None:
    console = Console(file=io.StringIO(), width=140)
    print_summary([POLYP, MISSING], console)
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert [
        "a,",
        "[1].avi",
        "done",
        "8",
        "2",
        "0.90",
        "/",
        "2.25",
        "–",
        "75.0",
        "%",
        "25.0",
        "%",
        "25.0",
        "%",
    ] in lines
    assert ["b.avi", "missing", "0", "0", "–", "–", "–", "–", "–"] in lines
