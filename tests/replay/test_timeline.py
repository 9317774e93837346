"""Times are kept where they are true, and mended where they are not."""

from collections import Counter
from dataclasses import dataclass

import pytest

from endostream.replay.timeline import Timeline, in_display_order


@dataclass
class Picture:
    name: str
    pts: int | None


def mended(raw: list[int | None], step: int = 1, longest_gap: int = 100) -> tuple[list[int], dict[str, int]]:
    faults: Counter[str] = Counter()
    timeline = Timeline(step, longest_gap, faults)
    return [timeline.mend(pts) for pts in raw], dict(faults)


def test_true_times_of_a_variable_rate_are_kept() -> None:
    assert mended([0, 40, 50, 140], step=40) == ([0, 40, 50, 140], {})


def test_a_stream_without_times_is_counted_out_by_its_rate() -> None:
    assert mended([None, None, None], step=40) == ([0, 40, 80], {"missing_pts": 3})


def test_one_time_that_goes_back_costs_one_frame() -> None:
    assert mended([0, 1, 2, 0, 4, 5]) == ([0, 1, 2, 3, 4, 5], {"backward_pts": 1})


def test_a_stream_that_begins_again_goes_on_without_a_hole() -> None:
    assert mended([10, 11, 12, 0, 1, 2, 4]) == ([10, 11, 12, 13, 14, 15, 17], {"backward_pts": 2})


def test_one_absurd_time_does_not_stop_the_replay_for_hours() -> None:
    assert mended([0, 1, 900_000, 3, 4]) == ([0, 1, 2, 3, 4], {"pts_jump": 1})


def test_a_jump_that_stays_is_taken_out() -> None:
    assert mended([0, 1, 900_000, 900_001, 900_003]) == ([0, 1, 2, 3, 5], {"pts_jump": 2})


def test_a_repeated_time_is_moved_on() -> None:
    assert mended([0, 1, 1, 3]) == ([0, 1, 2, 3], {"backward_pts": 1})


@pytest.mark.parametrize("first", [-5, 0, 90_000])
def test_the_first_time_is_believed(first: int) -> None:
    assert mended([first, first + 1]) == ([first, first + 1], {})


def test_times_out_of_order_are_sorted_among_pictures_that_stay_in_order() -> None:
    pictures = [Picture(name, pts) for name, pts in zip("abcdef", [1, 2, 4, 3, 6, 5], strict=True)]
    ordered = list(in_display_order(pictures, look_ahead=2))
    assert [(picture.name, pts) for picture, pts in ordered] == list(zip("abcdef", range(1, 7), strict=True))


def test_a_picture_without_a_time_stays_without_one() -> None:
    pictures = [Picture("a", 2), Picture("b", None), Picture("c", 1)]
    assert [pts for _, pts in in_display_order(pictures, look_ahead=4)] == [1, None, 2]


def test_without_look_ahead_nothing_is_held_back() -> None:
    source = iter([Picture("a", 1), Picture("b", 2)])
    ordered = in_display_order(source, look_ahead=0)
    assert next(ordered)[1] == 1
    assert next(source).name == "b"
