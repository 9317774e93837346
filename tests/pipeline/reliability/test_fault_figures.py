"""What a fault did to the video, from diaries made by hand, and whether that may be."""

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.reliability.fault_cells import (
    FAULTS,
    LIMITS,
    NOT_APPLICABLE,
    PROCESS,
    Cell,
    all_cells,
)
from endostream.pipeline.reliability.fault_figures import (
    Figures,
    Moments,
    again_s,
    broken_promises,
    figures_of,
    freezes_ms,
    source_gap_ms,
)
from endostream.pipeline.reliability.faults import chosen_cells
from endostream.pipeline.report import FrameCounts, Report, SinkTotals, SourceTotals, StageTotals
from endostream.pipeline.sinks.diary_sink import DiaryLine

MS = 1_000_000
PERIOD_MS = 40


def line(
    at_ms: int, state: str = "fresh", mask_age_ms: int | None = 40, synthetic: bool = False
) -> DiaryLine:
    """A picture captured and presented at ``at_ms``."""
    mask_ns = None if mask_age_ms is None else (at_ms - mask_age_ms) * MS
    return DiaryLine(0, at_ms // PERIOD_MS, at_ms * MS, at_ms * MS, state, mask_ns, synthetic)


def steady(begin_ms: int, end_ms: int, **more: object) -> list[DiaryLine]:
    return [line(at_ms, **more) for at_ms in range(begin_ms, end_ms, PERIOD_MS)]  # type: ignore[arg-type]


def test_a_freeze_belongs_to_the_time_in_which_it_ends() -> None:
    shown = [*steady(0, 2000), *steady(2160, 4000), *steady(4400, 6000)]
    assert freezes_ms(shown, 4200 * MS) == (200.0, 440.0)


def test_the_first_second_of_a_run_does_not_count() -> None:
    shown = [line(0), line(600), *steady(1200, 4000)]
    assert freezes_ms(shown, 3000 * MS)[0] == 40.0


def test_a_fault_before_the_first_second_is_over_counts_all_the_same() -> None:
    assert freezes_ms([line(0), line(40), line(700)], 100 * MS) == (None, 660.0)


def test_without_two_pictures_there_is_no_freeze() -> None:
    assert freezes_ms([line(0)], 5 * MS) == (None, None)
    assert freezes_ms([], 5 * MS) == (None, None)


def test_what_of_a_freeze_is_the_sources_own_is_told() -> None:
    held_up = DiaryLine(0, 3, 120 * MS, 900 * MS, "fresh", 80 * MS, False)
    assert source_gap_ms([line(0), line(40), line(80), held_up], 50 * MS) == 40.0
    assert source_gap_ms([line(0)], 0) is None


def test_annotation_is_back_with_a_fresh_mask_of_a_frame_after_the_fault() -> None:
    shown = [
        line(1000),
        line(1040, "fresh", 80),  # captured before the fault began
        line(1080, "held", 40),
        line(1500, "fresh", 60),  # captured while it lasted
        line(1600, "fresh", 40),
    ]
    assert again_s(shown, Moments(1000 * MS, 1450 * MS)) == 0.6
    assert again_s(shown, Moments(1000 * MS, 1580 * MS)) is None
    assert again_s(shown, Moments(1000 * MS, 0)) is None


CELL = Cell("infer", "kill", "SIGKILL", signal_number=9)
FAULT = Moments(4000 * MS, 4010 * MS)


def report(**more: object) -> Report:
    fields: dict[str, object] = {
        "status": "done",
        "exit_code": 0,
        "mode": "live",
        "segmenter": "quick",
        "runtime": "numpy",
        "presenting_sink": "diary",
        "duration_s": 6.0,
        "frames": FrameCounts(captured=150, presented=150),
        "sources": [SourceTotals(address="a.avi", info={"fps": 25.0})],
        "stages": {"infer": StageTotals(restarts=1), "overlay": StageTotals()},
    }
    return Report(**{**fields, **more})  # type: ignore[arg-type]


def test_the_figures_of_a_cell_that_kept_every_promise() -> None:
    shown = [*steady(0, 4000), *steady(4000, 4600, state="failed", mask_age_ms=None), *steady(4600, 6000)]
    figures = figures_of(CELL, FAULT, shown, report())
    assert (figures.period_ms, figures.freeze_before_ms, figures.freeze_ms) == (40.0, 40.0, 40.0)
    assert figures.freeze_periods == 1.0
    assert (figures.captured, figures.lost_frames, figures.again_s) == (150, 0, 0.6)
    assert (figures.lasted_s, figures.restarts, figures.broken) == (0.01, {"infer": 1}, [])
    assert figures.sink_dropped is None


def test_pictures_of_our_own_are_no_video() -> None:
    shown = [*steady(0, 4000), line(4200, synthetic=True), *steady(4400, 6000)]
    assert figures_of(CELL, FAULT, shown, report()).freeze_ms == 440.0


def test_what_was_not_kept_is_said_in_words() -> None:
    shown = [*steady(0, 4000), *steady(4100, 8000, state="stale"), *steady(8000, 9000)]
    sinks = {"video:o.mp4": SinkTotals(offered=9, written=7, dropped_by_cause={"sink_full": 2})}
    frames = FrameCounts(captured=150, presented=147, dropped={"superseded": 3}, ledger_closed=False)
    figures = figures_of(CELL, FAULT, shown, report(frames=frames, sinks=sinks, exit_code=5))
    assert figures.sink_dropped == 2
    assert figures.source_gap_ms == 140.0
    assert figures.broken == [
        "freeze over 80.0 ms (the source paused for 140.0 ms)",
        "3 frames lost",
        "annotation back after 3 s or more",
        "ledger not closed",
        "exit code 5 instead of 0",
    ]


def test_annotation_that_stays_away_and_a_run_that_never_settled_are_broken_promises() -> None:
    assert figures_of(CELL, FAULT, steady(0, 4000), report()).broken == [
        "freeze over 80.0 ms",
        "annotation not back",
    ]
    assert broken_promises(Figures("infer", "kill", "", "", 40.0), CELL, Moments()) == [
        "the run never settled, so nothing was done to it"
    ]


@pytest.mark.parametrize(
    ("stage", "freeze_ms", "broken"),
    [
        ("preprocess", 80.0, []),
        ("preprocess", 80.1, ["freeze over 80.0 ms"]),
        ("overlay", 1000.0, []),
        ("overlay", 1000.1, ["freeze over 1000.0 ms"]),
        ("recorder", 80.1, ["freeze over 80.0 ms"]),
        ("source", 60_000.0, []),
    ],
)
def test_each_stage_has_its_own_limit(stage: str, freeze_ms: float, broken: list[str]) -> None:
    figures = Figures(stage, "kill", "", "", 40.0, freeze_ms=freeze_ms, again_s=0.5, ledger_closed=True)
    assert broken_promises(figures, Cell(stage, "kill", ""), FAULT) == broken


# The matrix


def test_every_stage_has_every_fault_or_a_reason() -> None:
    there = {(cell.stage, cell.fault) for cell in all_cells()} | set(NOT_APPLICABLE)
    assert there == {(stage, fault) for stage in PROCESS for fault in FAULTS}
    assert not {(cell.stage, cell.fault) for cell in all_cells()} & set(NOT_APPLICABLE)
    assert set(LIMITS) == set(PROCESS)
    assert len({cell.name for cell in all_cells()}) == len(all_cells())


def test_cells_are_chosen_by_stage_fault_and_variant() -> None:
    assert [cell.name for cell in chosen_cells(["overlay"], ["kill", "stop"])] == [
        "overlay kill",
        "overlay stop",
    ]
    assert [cell.name for cell in chosen_cells([], ["garbage:all-ones"])] == ["infer garbage:all-ones"]
    assert [cell.name for cell in chosen_cells(["capture", "record"], ["kill"])] == [
        "source kill",
        "recorder kill",
    ]
    assert chosen_cells([], []) == all_cells()


@pytest.mark.parametrize(
    ("stages", "faults", "words"),
    [
        (["heart"], [], "stage: 'heart'; expected one of preprocess, infer"),
        ([], ["flood"], "fault: 'flood'; expected one of kill, stop"),
        (["infer"], ["disk-full"], "none of these makes sense"),
    ],
)
def test_what_cannot_be_chosen_is_said(stages: list[str], faults: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        chosen_cells(stages, faults)
