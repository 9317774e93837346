"""Counts of known series: buckets, blocks, courses, percentiles and the bootstrap."""

import numpy as np
import pytest

from endostream.pipeline.histogram import BUCKETS, Histogram, bucket_of
from endostream.pipeline.profile.bootstrap import draws_ns, figures_ns, interval_ns, pool, too_few
from endostream.pipeline.profile.digest import RunDigest, SeriesDigest, block_count, buckets_of
from endostream.pipeline.profile.series import Values

SECOND = 1_000_000_000


def digest_of(values_ns: list[int], seconds: int = 8) -> SeriesDigest:
    """The values spread evenly over a run of so many seconds."""
    run = RunDigest(0, seconds * SECOND)
    at_ns = np.linspace(0, seconds * SECOND, len(values_ns)).astype(np.int64)
    run.add("x", Values(at_ns, np.array(values_ns, np.int64)))
    run.close()
    return run.series["x"]


def test_buckets_are_those_of_the_histogram() -> None:
    values = [0, 1, 511, 512, 513, 1023, 1024, 10**6, 2**46, 2**47 - 1, 2**47, 2**52]
    values += [2**power + step for power in range(10, 47) for step in (-1, 0, 1)]
    assert buckets_of(np.array(values, np.int64)).tolist() == [bucket_of(value) for value in values]
    assert buckets_of(np.array([-5], np.int64)).tolist() == [0]


def test_figures_of_a_known_series_are_exact() -> None:
    # 256 to 511 ns have buckets of 1 ns: nothing is rounded.
    pooled = pool([digest_of([256 + number // 10 for number in range(1000)])])
    assert pooled is not None
    assert figures_ns(pooled) == {
        "p50": 256 + 49,
        "p90": 256 + 89,
        "p99": 256 + 98,
        "p99_9": 256 + 99,
        "max": 256 + 99,
        "jitter": 49,
    }


def test_figures_agree_with_the_histogram_of_the_pipeline() -> None:
    values = np.random.default_rng(1).lognormal(14, 1, 5000).astype(np.int64)
    histogram = Histogram.in_memory()
    for value in values.tolist():
        histogram.record(value)
    pooled = pool([digest_of(values[:2000].tolist()), digest_of(values[2000:].tolist())])
    assert pooled is not None
    figures, summary = figures_ns(pooled), histogram.summary_ms()
    assert summary is not None
    assert {name: round(figures[name] / 1e6, 4) for name in ("p50", "p90", "p99", "p99_9", "max")} == {
        name: value for name, value in summary.items() if name != "n"
    }


def test_what_lies_outside_the_window_is_left_out() -> None:
    run = RunDigest(10, 20)
    run.add("x", Values(np.array([9, 10, 20, 21]), np.array([1, 2, 3, 4])))
    assert run.series["x"].counts.sum(axis=0).nonzero()[0].tolist() == [2, 3]


def test_blocks_are_a_second_each_but_eight_to_sixty_four() -> None:
    assert [block_count(seconds) for seconds in (0.5, 8, 20, 86_400)] == [8, 8, 20, 64]


def test_the_course_has_least_median_p99_and_most_of_each_bin() -> None:
    run = RunDigest(0, 20 * SECOND)  # 40 bins of half a second
    for at, values in ((0, [3, 1, 2]), (SECOND, [7])):
        run.add("x", Values(np.full(len(values), at), np.array(values) * 1_000_000))
    run.close()
    assert run.series["x"].course.bins == 40
    assert run.series["x"].course.rows == [(0, 3, 1.0, 2.0, 3.0, 3.0), (2, 1, 7.0, 7.0, 7.0, 7.0)]


def test_a_bin_may_come_in_pieces() -> None:
    run = RunDigest(0, 20 * SECOND)
    for values in ([3, 1], [2]):
        run.add("x", Values(np.zeros(len(values), np.int64), np.array(values) * 1_000_000))
    run.close()
    assert run.series["x"].course.rows == [(0, 3, 1.0, 2.0, 3.0, 3.0)]


def test_negative_durations_are_told() -> None:
    assert digest_of([5, -1, 7]).negative == 1


def test_a_series_that_never_changes_has_an_interval_of_no_width() -> None:
    pooled = pool([digest_of([300] * 200)])
    assert pooled is not None
    draws = draws_ns(pooled)
    assert draws is not None
    assert {name: interval_ns(values) for name, values in draws.items()} == {
        **dict.fromkeys(("p50", "p90", "p99", "p99_9", "max"), (300.0, 300.0)),
        "jitter": (0.0, 0.0),
    }


def test_a_single_block_gives_no_interval() -> None:
    run = RunDigest(0, 8 * SECOND)
    run.add("x", Values(np.zeros(3, np.int64), np.array([1, 2, 3])))
    pooled = pool([run.series["x"]])
    assert pooled is not None
    assert draws_ns(pooled) is None


def test_the_interval_of_a_median_covers_the_true_one_as_often_as_it_says() -> None:
    """Independent frames: 95 % of intervals should cover; 100 series leave 88 to 100 % to chance."""
    random, covered = np.random.default_rng(7), 0
    for number in range(100):
        pooled = pool([digest_of(random.integers(0, 500, 1000).tolist(), seconds=30)])
        assert pooled is not None
        draws = draws_ns(pooled, seed=number, draws=200)
        assert draws is not None
        low, high = interval_ns(draws["p50"])
        covered += low <= 249.5 <= high + 1
    assert 0.88 <= covered / 100 <= 1.0


def test_frames_that_are_alike_within_a_second_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    alike = np.repeat(random.integers(0, 500, 30), 30).tolist()
    widths = []
    for values in (alike, random.permutation(alike).tolist()):
        pooled = pool([digest_of(values, seconds=30)])
        assert pooled is not None
        draws = draws_ns(pooled)
        assert draws is not None
        low, high = interval_ns(draws["p50"])
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_runs_that_differ_widen_the_interval_to_both() -> None:
    pooled = pool([digest_of([300] * 200), digest_of([400] * 200)])
    assert pooled is not None
    draws = draws_ns(pooled)
    assert draws is not None
    assert interval_ns(draws["p50"]) == (300.0, 400.0)


def test_no_values_are_no_series() -> None:
    assert pool([]) is None
    assert (
        pool([SeriesDigest(np.zeros((8, BUCKETS), np.int32), np.full(8, -1), digest_of([1]).course)]) is None
    )


@pytest.mark.parametrize(
    ("n", "figure", "few"),
    [
        (499, "p99", True),
        (500, "p99", False),
        (4999, "p99_9", True),
        (5000, "p99_9", False),
        (10**6, "max", True),
    ],
)
def test_fewer_than_five_values_beyond_a_percentile_are_marked(n: int, figure: str, few: bool) -> None:
    assert too_few(n, figure) is few
