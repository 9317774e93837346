"""The fault matrix as Markdown, JSON and a table on the terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from endostream.configs.errors import ConfigError
from endostream.pipeline.reliability.fault_figures import Figures
from endostream.pipeline.reliability.fault_table import (
    Matrix,
    check_page,
    chosen_words,
    markdown_grid,
    markdown_in_full,
    matrix_json,
    print_matrix,
    replace_between,
    update_page,
)


def cell(stage: str, fault: str, variant: str = "", **more: object) -> Figures:
    fields: dict[str, object] = {
        "freeze_ms": 41.0,
        "freeze_before_ms": 40.5,
        "again_s": 0.52,
        "restarts": {"infer": 1},
        "ledger_closed": True,
    }
    return Figures(stage, fault, variant, "what", 40.0, **{**fields, **more})  # type: ignore[arg-type]


def matrix(*cells: Figures) -> Matrix:
    environment = {"cpu": "Test CPU", "cores": 2, "load_1min": 0.1, "commit": "0123456789"}
    return Matrix("phantom:", "quick", "endostream faults", environment, list(cells))


GOOD = cell("infer", "kill")
BAD = cell("infer", "garbage", "all-ones", freeze_ms=93.0, lost_frames=2, broken=["freeze over 80.0 ms"])
FINE = cell("infer", "garbage", "not-a-number", again_s=1.25, lasted_s=1.0)


def test_the_grid_has_the_worst_of_each_stage_and_fault_and_the_reasons_for_what_makes_no_sense() -> None:
    rows = markdown_grid(matrix(GOOD, BAD, FINE)).splitlines()
    assert rows[0] == "| | preprocess | infer | overlay | source | recorder |"
    assert rows[2] == "| SIGKILL | – | 41 ms, 0 lost, 0.5 s | – | – | – |"
    assert rows[7].startswith("| garbage | – | **93 ms, 2 lost, 1.2 s** | – | – | n/a: nobody takes anything")
    assert rows[8].startswith("| disk full | n/a: writes no file | n/a: writes no file while it runs |")
    assert rows[-1] == (
        "phantom:, frame period 40.0 ms, quick; Test CPU, 2 cores, load 0.1 before, commit 0123456; "
        "made by `endostream faults`."
    )


def test_a_fault_after_which_annotation_never_came_back_is_told_so() -> None:
    assert "never back" in markdown_grid(matrix(cell("infer", "kill", again_s=None)))


def test_in_full_there_is_a_line_for_each_cell_with_what_was_not_kept() -> None:
    rows = markdown_in_full(matrix(GOOD, BAD, FINE)).splitlines()
    assert rows[2] == "| infer | SIGKILL | what | 41.0 (1.0) | 40.5 | 0 | 0.52 | infer 1 | closed |"
    assert rows[3] == (
        "| infer | garbage: all-ones | what | 93.0 (2.3) | 40.5 | 2 | 0.52 | infer 1 | closed **freeze over 80.0 ms** |"
    )
    assert rows[4].startswith(
        "| infer | garbage: not-a-number | what | 41.0 (1.0) | 40.5 | 0 | 1.25 (fault 1.0) |"
    )
    assert {row.count("|") for row in rows if row.startswith("|")} == {10}


def test_a_page_gets_the_tables_it_has_markers_for_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n<!-- faults -->\nold\n<!-- /faults -->\nB\n<!-- faults in full --><!-- /faults in full -->\n"
    )
    check_page(page)
    update_page(page, matrix(GOOD))
    update_page(page, matrix(GOOD))  # and once more in the same place
    text = page.read_text()
    assert text.startswith("# A\n<!-- faults -->\n| | preprocess")
    assert "<!-- /faults -->\nB\n<!-- faults in full -->\n| stage | fault |" in text
    assert text.endswith("<!-- /faults in full -->\n")
    assert "old" not in text
    assert text.count("| SIGKILL | –") == 1


def test_a_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    page = tmp_path / "new.md"
    check_page(page)
    update_page(page, matrix(GOOD))
    assert "| infer | SIGKILL |" in page.read_text()


def test_a_page_without_markers_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing to replace")
    with pytest.raises(ConfigError, match="expected the markers <!-- faults -->"):
        check_page(page)


def test_backslashes_in_a_table_are_no_groups() -> None:
    assert replace_between("<!-- faults --><!-- /faults -->", "faults", r"\1") == (
        "<!-- faults -->\n\\1\n<!-- /faults -->"
    )


def test_the_json_has_everything_and_whether_all_was_kept() -> None:
    said = json.loads(matrix_json(matrix(GOOD, BAD)))
    assert (said["schema"], said["met"], said["source"]) == (1, False, "phantom:")
    assert said["cells"][1]["freeze_periods"] == 2.33
    assert said["cells"][1]["broken"] == ["freeze over 80.0 ms"]
    assert {"stage": "overlay", "fault": "disk-full", "why": "writes no file"} in said["not_applicable"]
    assert json.loads(matrix_json(matrix(GOOD)))["met"] is True


def test_the_terminal_shows_a_line_for_each_cell() -> None:
    text = io.StringIO()
    print_matrix(matrix(GOOD, BAD), Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert [word for line in lines for word in ("kept", "freeze over 80.0 ms") if word in line] == [
        "kept",
        "freeze over 80.0 ms",
    ]


def test_what_was_not_kept_is_one_line_each() -> None:
    assert chosen_words([GOOD, BAD]) == ["infer garbage:all-ones: freeze over 80.0 ms"]
