"""What the witness says of sightings written down by hand."""

import pytest

from endostream.pipeline.witness.witness_play import Slot
from endostream.pipeline.witness.witness_verdict import Seen, against_stamps, judge, summary_ms

MS = 1_000_000
PERIOD_NS = 40.0 * MS


def seen_at(
    number: int, at_ms: float, *, delay_ms: float = 5, half_ms: float = 0.5, other: int | None = None
) -> Seen:
    """Frame ``number`` seen at a time, coded ``delay_ms`` before."""
    at_ns = int(at_ms * MS)
    coded_us = int((at_ms - delay_ms) * 1000) % (1 << 32)
    return Seen(number, at_ns - int(half_ms * MS), at_ns + int(half_ms * MS), coded_us, other)


def run(*numbers: int) -> list[Seen]:
    """One frame a period."""
    return [seen_at(number, 1000 + 40 * place) for place, number in enumerate(numbers)]


def test_the_delay_is_from_the_code_s_time_to_half_way_between_two_looks() -> None:
    verdict = judge([seen_at(0, 1000, delay_ms=4), seen_at(1, 1040, delay_ms=8)], None, PERIOD_NS)
    assert verdict.delay_ms == {"n": 2, "p50": 6.0, "p90": 7.6, "p99": 7.96, "p99_9": 7.996, "max": 8.0}
    assert verdict.error_ms["max"] == 0.5
    assert verdict.interval_ms["max"] == 40.0


def test_a_code_from_before_the_clock_s_wrap_gives_the_same_delay() -> None:
    wrap_ms = (1 << 32) / 1000
    assert seen_at(3, wrap_ms + 2, delay_ms=5).delay_ns == pytest.approx(5 * MS, abs=2000)
    assert seen_at(3, wrap_ms + 2, delay_ms=-1).delay_ns == pytest.approx(-1 * MS, abs=2000)


def test_all_in_order_is_nothing_to_complain_of() -> None:
    verdict = judge(run(0, 1, 2, 3), None, PERIOD_NS)
    assert (verdict.sent, verdict.seen) == (4, 4)
    assert verdict.lost + verdict.repeated + verdict.reordered + verdict.torn == []


def test_a_dropped_frame_is_lost_and_the_one_before_it_stayed() -> None:
    sightings = [seen_at(0, 1000), seen_at(1, 1040), seen_at(3, 1120), seen_at(4, 1160)]
    verdict = judge(sightings, None, PERIOD_NS)
    assert (verdict.lost, verdict.repeated, verdict.reordered) == ([2], [1], [])


def test_a_swap_is_named_by_the_frame_that_came_late() -> None:
    verdict = judge(run(0, 2, 1, 3), None, PERIOD_NS)
    assert (verdict.lost, verdict.repeated, verdict.reordered) == ([], [], [1])


def test_a_torn_picture_is_named_and_gives_no_delay() -> None:
    sightings = [seen_at(0, 1000), seen_at(1, 1040, other=0), seen_at(1, 1042, delay_ms=7)]
    verdict = judge(sightings, None, PERIOD_NS)
    assert verdict.torn == [1]
    assert verdict.delay_ms["n"] == 2
    assert verdict.delay_ms["max"] == 7.0


def test_what_was_never_sent_is_not_lost() -> None:
    slots = [
        Slot(0, 0, None, 1, 1),
        Slot(1, None, None, 0, 0, "late"),
        Slot(2, 2, None, 1, 1),
        Slot(3, 3, None, 1, 1),
    ]
    verdict = judge([seen_at(0, 1000), seen_at(2, 1080)], slots, PERIOD_NS)
    assert (verdict.sent, verdict.lost, verdict.not_sent) == (3, [3], [1])


def test_nothing_seen_means_all_lost_and_no_delay() -> None:
    verdict = judge([], [Slot(0, 0, None, 1, 1), Slot(1, 1, None, 1, 1)], PERIOD_NS)
    assert (verdict.sent, verdict.seen, verdict.lost) == (2, 0, [0, 1])
    assert verdict.delay_ms == {}


def test_in_a_file_a_frame_that_comes_twice_is_repeated_whatever_the_times() -> None:
    verdict = judge(run(0, 1, 1, 3), None, 0.0, file=True)
    assert (verdict.lost, verdict.repeated, verdict.delay_ms) == ([2], [1], {})


def test_our_stamps_are_compared_frame_by_frame() -> None:
    sightings = run(0, 1, 2)
    stamps = {0: int(sightings[0].seen_ns) - 2 * MS, 2: int(sightings[2].seen_ns) + 1 * MS, 9: 5}
    compared = against_stamps(sightings, stamps)
    assert compared["witness_after_stamp_ms"]["n"] == 2
    assert (compared["least_ms"], compared["witness_after_stamp_ms"]["max"]) == (-1.0, 2.0)


def test_an_empty_series_is_null_and_not_nought() -> None:
    assert summary_ms([]) == {"n": 0, "p50": None, "p90": None, "p99": None, "p99_9": None, "max": None}
