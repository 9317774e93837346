"""A histogram as plain data: its buckets add up, and two of them tell what came in between."""

import json

import numpy as np

from endostream.pipeline.histogram import Histogram
from endostream.pipeline.monitoring.series import series_of, series_percentile_ns, series_since


def recorded(*values_ns: int) -> Histogram:
    histogram = Histogram.in_memory()
    for value_ns in values_ns:
        histogram.record(value_ns)
    return histogram


def test_a_series_holds_each_duration_once_and_survives_json() -> None:
    series = series_of(recorded(3, 3, 500))
    assert series == {"n": 3, "sum_ns": 506, "max_ns": 500, "buckets": [[3, 2], [500, 1]]}
    assert json.loads(json.dumps(series)) == series


def test_an_empty_histogram_is_an_empty_series_without_percentiles() -> None:
    series = series_of(Histogram.in_memory())
    assert series == {"n": 0, "sum_ns": 0, "max_ns": 0, "buckets": []}
    assert series_percentile_ns(series, 50) is None


def test_what_came_in_between_is_the_difference_of_two() -> None:
    histogram = recorded(10, 20, 20)
    older = series_of(histogram)
    histogram.record(20)
    histogram.record(7)
    between = series_since(series_of(histogram), older)
    assert between == {"n": 2, "sum_ns": 27, "max_ns": 20, "buckets": [[7, 1], [20, 1]]}
    assert series_since(older, older) == {"n": 0, "sum_ns": 0, "max_ns": 0, "buckets": []}


def test_percentiles_of_a_series_are_those_of_the_histogram() -> None:
    values = np.random.default_rng(5).integers(1, 10**8, 999)
    histogram = recorded(*values.tolist())
    series = series_of(histogram)
    for q in (0, 50, 90, 99, 100):
        assert series_percentile_ns(series, q) == histogram.percentile_ns(q)
