"""A log worked through: every series of a known run, what was counted, the worst frames; damaged logs are refused."""

import csv
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.frame import FrameKey, Lost
from endostream.pipeline.profile.bootstrap import figures_ns, pool
from endostream.pipeline.profile.frame_log import Span, read_log, span_of
from endostream.pipeline.profile.measure import Window, measure_log, measure_rows
from endostream.pipeline.profile.profiler import FrameFile
from endostream.pipeline.profile.result import RunResult, cell_json
from endostream.pipeline.sinks.trace_row import COLUMNS

from .synthetic import BEGIN_NS, MS, PACED, PERIOD_NS, frame, measured, write_log


def most_ms(folder: Path, window: Window = PACED) -> dict[str, float]:
    run = measured(folder, [2.0] * 50, window)
    pooled = {name: pool([series]) for name, series in run.digest.series.items()}
    return {name: figures_ns(one)["max"] / 1e6 for name, one in pooled.items() if one is not None}


def test_every_series_of_a_run_with_known_stamps(tmp_path: Path) -> None:
    assert most_ms(tmp_path) == {
        "video_delay": 2.0,
        "present_interval": 40.0,
        "overlay.wait": 0.5,
        "overlay.service": 1.5,
        "release_lateness": 0.5,
        "annotation_delay": 42.0,
        "preprocess.wait": 1.0,
        "preprocess.service": 2.0,
        "infer.wait": 3.0,
        "infer.service": 4.0,
        "mask.wait": 1.0,
        "mask.service": 0.5,
        "mask.shown": 30.5,
    }


def test_without_due_times_there_is_no_lateness(tmp_path: Path) -> None:
    assert "release_lateness" not in most_ms(tmp_path, Window(0.0, None, False))


def test_warm_up_is_left_out_and_the_whole_is_counted_all_the_same(tmp_path: Path) -> None:
    run = measured(tmp_path, [90.0] * 25 + [2.0] * 25, Window(1.0, PERIOD_NS, True))
    pooled = pool([run.digest.series["video_delay"]])
    assert pooled is not None
    assert figures_ns(pooled)["max"] == 2 * MS
    # 90 ms after the first picture's 10.0905 s: frames from 11.0905 s on, of which the 28th is due at 11.08 s.
    assert (run.counted.presented, run.whole.presented) == (22, 50)


def test_a_frame_shown_more_than_a_period_after_it_was_due_is_too_late(tmp_path: Path) -> None:
    # All are released half a millisecond late.
    run = measured(tmp_path, [39.5, 39.6, 2.0, 100.0, 2.0])
    assert run.counted.deadline_misses == 2


def test_without_a_rate_nothing_is_said_of_deadlines(tmp_path: Path) -> None:
    run = measured(tmp_path, [100.0] * 3, Window(0.0, None, True))
    assert run.counted.deadline_misses is None


def test_losses_are_counted_by_cause(tmp_path: Path) -> None:
    lost = (Lost(FrameKey(0, 0, 1), 2, "superseded"), Lost(FrameKey(0, 0, 3), 1, "not_logged"))
    run = measure_log(write_log(tmp_path / "o.csv", [frame(0), frame(4, lost=lost)]), PACED)
    assert (dict(run.counted.dropped), run.counted.not_logged, run.counted.presented) == (
        {"superseded": 2},
        1,
        2,
    )


def test_the_worst_frames_are_kept_worst_first(tmp_path: Path) -> None:
    delays = [2.0] * 40
    delays[7], delays[21], delays[33] = 9.0, 30.0, 12.0
    run = measured(tmp_path, delays)
    assert [row["seq"] for row in run.worst["video_delay"]][:3] == [21, 33, 7]
    assert len(run.worst["video_delay"]) == len(run.worst["annotation_delay"]) == 10
    assert [row["seq"] for row in run.worst["annotation_delay"]][:3] == [21, 33, 7]


def test_pieces_of_any_length_give_the_same(tmp_path: Path) -> None:
    path = write_log(tmp_path / "o.csv", [frame(seq, 2 + seq % 5) for seq in range(101)])
    span = span_of(path)
    assert span is not None
    whole, pieces = (measure_rows(read_log(path, size), span, PACED) for size in (1000, 7))
    assert whole.worst == pieces.worst
    assert whole.kept == pieces.kept
    assert whole.counted == pieces.counted
    for name, series in whole.digest.series.items():
        assert (series.counts == pieces.digest.series[name].counts).all(), name
        assert series.course.rows == pieces.digest.series[name].course.rows, name


def test_the_span_is_that_of_the_presented_frames(tmp_path: Path) -> None:
    path = write_log(tmp_path / "o.csv", [frame(seq) for seq in range(3000)])
    end_ns = BEGIN_NS + 2999 * PERIOD_NS + 2 * MS + MS // 2
    assert span_of(path) == Span(BEGIN_NS + 2 * MS + MS // 2, end_ns)


def test_a_log_without_frames_has_no_span_and_no_series(tmp_path: Path) -> None:
    path = write_log(tmp_path / "o.csv", [])
    assert span_of(path) is None
    assert measure_log(path, PACED).digest.series == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one that --sink trace:FILE.csv has written"),
        ("a,b,c\n1,2,3\n", "expected one that --sink trace:FILE.csv has written"),
        (f"{','.join(COLUMNS)}\npresented,0\n", r"a line cannot be read \(2 columns; expected 26\)"),
        (f"{','.join(COLUMNS)}\n{','.join('x' * 26)}\n", "a line cannot be read"),
    ],
)
def test_what_is_no_frame_log_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        list(read_log(path))


def test_a_cell_keeps_its_period_when_its_first_run_did_not_get_so_far_as_to_know_it(tmp_path: Path) -> None:
    failed = measured(tmp_path, [], Window(0.0, None, True), "first.csv")
    done = measured(tmp_path, [2.0, 50.0])
    cell = cell_json("a cell", {}, [RunResult(failed), RunResult(done)])
    assert (cell["period_ms"], cell["counted"]["deadline_misses"]) == (40.0, 1)


def test_the_line_that_a_killed_run_left_torn_is_left_out_everywhere(tmp_path: Path) -> None:
    log = write_log(tmp_path / "o.csv", [frame(seq) for seq in range(10)])
    log.write_text(log.read_text()[:-30])
    torn = measure_log(log, PACED)
    assert torn.counted.presented == 9
    with FrameFile(tmp_path / "frames.csv") as frames:
        frames.add("a, cell", 1, log, torn)
        frames.add("a, cell", 2, write_log(tmp_path / "p.csv", [frame(0)]), torn)
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["repeat"], row["seq"]) for row in rows] == [
        *(("1", str(seq)) for seq in range(9)),
        ("2", "0"),
    ]


def test_the_frame_file_says_what_counts_so_that_anyone_gets_the_figures_out_of_it(tmp_path: Path) -> None:
    """Whoever took a percentile of the whole file had the warm-up in it, and another number than the report."""
    delays = [50.0] * 5 + [2.0] * 20
    lost = (Lost(FrameKey(0, 0, 5), 2, "superseded"),)
    shown = [frame(seq, video_ms, lost=lost if seq in (0, 9) else ()) for seq, video_ms in enumerate(delays)]
    log = write_log(tmp_path / "o.csv", shown)
    for warm_up_s, left_out in ((0.0, 0), (0.15, 4)):
        one = measure_log(log, Window(warm_up_s, PERIOD_NS, True))
        with FrameFile(tmp_path / "frames.csv") as frames:
            frames.add("a cell", 1, log, one)
        with (tmp_path / "frames.csv").open(newline="") as file:
            counting = [row for row in csv.DictReader(file) if row["counted"] == "1"]
        seqs = [int(row["seq"]) for row in counting if row["event"] == "presented"]
        assert seqs == list(range(left_out, 25))
        assert len(seqs) == one.counted.presented
        assert sum(int(row["frames"]) for row in counting if row["event"] == "dropped") == sum(
            one.counted.dropped.values()
        )


def test_a_run_back_to_back_leaves_out_its_share_of_the_warm_up_however_fast_it_was(tmp_path: Path) -> None:
    """One that was over within the seconds of the warm-up had no figure at all."""
    run = measured(tmp_path, [2.0] * 26, Window(60.0, None, False, 0.2))
    assert run.counted.presented == 21
    assert run.whole.presented == 26
