"""Budgets: what can be written, what holds, and that a limit on nothing is broken."""

from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.profile.budget import Budget, check, parse_budget, refuse_unknown

from .synthetic import measured, profile_of


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("video_delay.p99=5.75ms", ("video_delay", "p99", 5.75)),
        ("video_delay.p99.9 = 5750us", ("video_delay", "p99_9", 5.75)),
        ("video_delay.p99_9=5750µs", ("video_delay", "p99_9", 5.75)),
        ("infer.service.max=0.03s", ("infer.service", "max", 30.0)),
        ("present_interval.jitter=2ms", ("present_interval", "jitter", 2.0)),
        ("witness.video_delay.p50=1ms", ("witness.video_delay", "p50", 1.0)),
        ("dropped=0", ("", "dropped", 0.0)),
        ("first_picture=1500ms", ("", "first_picture", 1.5)),
    ],
)
def test_what_a_budget_reads_like(text: str, budget: tuple[str, str, float]) -> None:
    assert parse_budget(text) == Budget(text, *budget)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_delay.p99", "expected SERIES.FIGURE=LIMIT"),
        ("video_delay=5ms", "expected SERIES.FIGURE=LIMIT"),
        ("video_delay.p98=5ms", "with FIGURE one of p50, p90, p99, p99_9, max, jitter"),
        ("video_delay.p09=5ms", "Try: --budget video_delay.p9"),
        ("droped=0", "Try: --budget dropped=0$"),
        ("video_delay.p99=fast", "expected SERIES.FIGURE=LIMIT"),
        ("video_delay.p99=-1ms", "expected SERIES.FIGURE=LIMIT"),
        ("video_delay.p99=5", "expected a unit: ms, us or s. Try: --budget video_delay.p99=5ms"),
        ("video_delay.p99=10%", "expected ms, us or s: a share is of a comparison only"),
        ("dropped=1%", "expected a number of frames: a share is of a comparison only"),
        ("dropped=3ms", "expected a number of frames without a unit"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "kinds", "message"),
    [
        ("infer.servce.p99=5ms", [(False, ())], "Try: --budget infer.service.p99=5ms$"),
        ("witness.delay.p99=5ms", [(False, ())], "Try: --external COMMAND$"),
        ("witness.dely.p99=5ms", [(False, ()), (True, ())], "Try: --budget witness.delay.p99=5ms$"),
        ("video_delay.p99=5ms", [(True, ())], "expected a series of --external: witness.delay, "),
        ("record.service.p99=5ms", [(False, ())], "expected SERIES one of annotation_delay, "),
    ],
)
def test_a_series_that_nothing_here_can_have_is_refused(
    text: str, kinds: list[tuple[bool, tuple[str, ...]]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unknown([parse_budget(text)], kinds)


def test_a_series_of_a_report_is_known_though_no_profile_has_it() -> None:
    refuse_unknown([parse_budget("record.service.p99=5ms")], [(False, ("record.service",))])


def lines(folder: Path, *texts: str) -> list[str]:
    cells = profile_of([measured(folder, [2.0] * 99 + [50.0])])["cells"]
    return [verdict.line() for verdict in check([parse_budget(text) for text in texts], cells)]


def test_a_line_names_figure_limit_measured_and_interval(tmp_path: Path) -> None:
    assert lines(tmp_path, "video_delay.p50=5.75ms", "video_delay.max=5.75ms") == [
        "budget kept: video_delay.p50 in phantom:, fcm; limit 5.75 ms, measured 2.003 ms "
        "(95 % interval 2 to 2.003)",
        "budget broken: video_delay.max in phantom:, fcm; limit 5.75 ms, measured 50 ms "
        "(95 % interval 2 to 50)",
    ]


def test_a_limit_is_kept_when_it_is_met_exactly(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, "video_delay.max=50ms")
    assert line.startswith("budget kept")


def test_counts_have_limits_too(tmp_path: Path) -> None:
    assert lines(tmp_path, "dropped=0", "deadline_misses=0", "failed=0") == [
        "budget kept: dropped in phantom:, fcm; limit 0 frames, measured 0 frames (no interval)",
        "budget broken: deadline_misses in phantom:, fcm; limit 0 frames, measured 1 frames (no interval)",
        "budget kept: failed in phantom:, fcm; limit 0 frames, measured 0 frames (no interval)",
    ]


def test_a_budget_on_a_series_without_a_value_is_broken(tmp_path: Path) -> None:
    assert lines(tmp_path, "overlay.naps.p99=5ms", "witness.delay.p99=5ms", "first_mask=4s") == [
        "budget broken: overlay.naps.p99 in phantom:, fcm; limit 5 ms, nothing was measured",
        "budget broken: witness.delay.p99 in no cell; limit 5 ms, nothing was measured",
        "budget broken: first_mask in phantom:, fcm; limit 4 s, nothing was measured",
    ]


def test_a_count_of_a_run_without_frames_is_broken(tmp_path: Path) -> None:
    cells = profile_of([measured(tmp_path, [])])["cells"]
    assert [verdict.kept for verdict in check([parse_budget("dropped=0")], cells)] == [False]
