"""The histogram: exact counts, bounded error against NumPy's percentiles, shared cells, empty series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endostream.pipeline.histogram import BUCKETS, FIRST_BUCKET, Histogram, bucket_of, upper_edge_ns


def histogram_of(*values_ns: int) -> Histogram:
    histogram = Histogram.in_memory()
    for value_ns in values_ns:
        histogram.record(value_ns)
    return histogram


def nearest_rank_ns(values_ns: list[int], q: float) -> int:
    return int(np.percentile(values_ns, q, method="inverted_cdf"))


def test_an_empty_series_is_none_and_never_zero() -> None:
    empty = Histogram.in_memory()
    assert empty.summary_ms() is None
    assert (empty.percentile_ns(50), empty.min_ns, empty.max_ns) == (None, None, None)
    assert (empty.n, empty.sum_ns, empty.negative) == (0, 0, 0)


def test_a_recorded_zero_is_not_an_empty_series() -> None:
    zero = histogram_of(0)
    assert zero.summary_ms() == {"n": 1, "p50": 0.0, "p90": 0.0, "p99": 0.0, "p99_9": 0.0, "max": 0.0}
    assert zero.min_ns == 0


def test_count_minimum_maximum_and_sum_are_exact() -> None:
    histogram = histogram_of(7_654_321, 123, 10**12)
    assert (histogram.n, histogram.min_ns, histogram.max_ns, histogram.sum_ns) == (
        3,
        123,
        10**12,
        10**12 + 7_654_444,
    )


def test_durations_below_512_ns_are_told_exactly() -> None:
    histogram = histogram_of(*range(512))
    assert [histogram.percentile_ns(q) for q in (0, 25, 50, 100)] == [0, 127, 255, 511]


def test_buckets_join_without_gap_or_overlap() -> None:
    edges_ns = [upper_edge_ns(bucket) for bucket in range(BUCKETS)]
    assert edges_ns[:3] == [0, 1, 2] and edges_ns[-1] == 2**47 - 1
    assert all(bucket_of(edge) == bucket for bucket, edge in enumerate(edges_ns))
    assert all(bucket_of(edge + 1) == bucket + 1 for bucket, edge in enumerate(edges_ns[:-1]))


def test_ranks_of_decimal_percentiles_are_exact() -> None:
    histogram = histogram_of(*[1] * 999, 400)
    assert histogram.percentile_ns(99.9) == 1
    assert histogram.percentile_ns(99.91) == 400


def test_the_percentiles_of_one_to_a_thousand_milliseconds() -> None:
    summary = histogram_of(*(ms * 1_000_000 for ms in range(1, 1001))).summary_ms()
    assert summary is not None and summary["n"] == 1000 and summary["max"] == 1000.0
    for key, exact_ms in (("p50", 500), ("p90", 900), ("p99", 990), ("p99_9", 999)):
        assert exact_ms <= summary[key] <= exact_ms * 1.004  # type: ignore[literal-required]


@settings(max_examples=200, deadline=None)
@given(
    values_ns=st.lists(st.integers(0, 2**47 - 1) | st.integers(0, 100_000_000), min_size=1, max_size=50),
    q=st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]),
)
def test_a_percentile_is_never_low_and_at_most_0_4_percent_high(values_ns: list[int], q: float) -> None:
    told_ns = histogram_of(*values_ns).percentile_ns(q)
    exact_ns = nearest_rank_ns(values_ns, q)
    assert told_ns is not None and exact_ns <= told_ns <= exact_ns * 1.004


def test_no_percentile_exceeds_the_exact_maximum() -> None:
    histogram = histogram_of(1_000_001)
    assert histogram.percentile_ns(50) == histogram.percentile_ns(100) == 1_000_001


def test_durations_past_the_last_bucket_are_counted_and_told_by_the_maximum() -> None:
    histogram = histogram_of(5, 2**60)
    assert histogram.n == 2
    assert histogram.percentile_ns(100) == 2**60


def test_negative_durations_count_as_zero_and_apart() -> None:
    histogram = histogram_of(-5, 300)
    assert (histogram.n, histogram.negative, histogram.min_ns, histogram.sum_ns) == (2, 1, 0, 300)


def test_a_second_view_of_the_same_cells_reads_and_goes_on() -> None:
    cells = np.zeros(Histogram.cells() + 3, np.int64)
    writer, reader = Histogram(cells), Histogram(cells)
    writer.record(100)
    assert reader.summary_ms() == writer.summary_ms()
    restarted_writer = Histogram(cells)
    restarted_writer.record(40)
    assert (reader.n, reader.min_ns, reader.max_ns) == (2, 40, 100)
    assert cells[-3:].tolist() == [0, 0, 0]


def test_merging_equals_recording_everything_in_one() -> None:
    merged = histogram_of(10, 2_000_000)
    merged.merge(histogram_of(3, 9_000_000, -1))
    together = histogram_of(10, 2_000_000, 3, 9_000_000, -1)
    assert merged.summary_ms() == together.summary_ms()
    assert (merged.min_ns, merged.sum_ns, merged.negative) == (0, together.sum_ns, 1)


def test_merging_an_empty_histogram_changes_nothing_in_either_direction() -> None:
    histogram = histogram_of(77)
    histogram.merge(Histogram.in_memory())
    assert (histogram.n, histogram.min_ns) == (1, 77)
    target = Histogram.in_memory()
    target.merge(histogram)
    assert (target.n, target.min_ns, target.max_ns) == (1, 77, 77)


def test_counts_give_the_curve_with_ascending_edges() -> None:
    edges_ns, counts = histogram_of(3, 3, 511, 1024).counts()
    assert edges_ns.tolist() == [3, 511, 1027]
    assert counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(Histogram.cells(), np.int32),
        np.zeros(Histogram.cells() - 1, np.int64),
        np.zeros((2, Histogram.cells()), np.int64),
        np.zeros(2 * Histogram.cells(), np.int64)[::2],
    ],
)
def test_cells_that_do_not_fit_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected 10245 contiguous int64"):
        Histogram(array)


def test_a_percentile_outside_0_to_100_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 100"):
        histogram_of(1).percentile_ns(101)


def test_the_leading_cells_are_where_the_docstring_says() -> None:
    cells = np.zeros(Histogram.cells(), np.int64)
    Histogram(cells).record(9)
    assert cells[:FIRST_BUCKET].tolist() == [1, 9, 9, 9, 0]
    assert cells[FIRST_BUCKET + 9] == 1


def test_a_duration_longer_than_a_cell_holds_is_counted_as_the_longest_that_fits() -> None:
    # Found by fuzzing: a frame header with a capture time of -2^63 ended preprocess.
    histogram = Histogram.in_memory()
    for value_ns in (1 << 64, 5, 1 << 70):
        histogram.record(value_ns)
    assert (histogram.n, histogram.min_ns) == (3, 5)
    assert histogram.max_ns == histogram.sum_ns == (1 << 63) - 1
