"""Times in a video file: kept, always growing, mended where a stream's are not."""

from fractions import Fraction

import pytest

from endostream.pipeline.sinks.video_times import VideoTimes

from .sink_contract import presented

PERIOD = Fraction(1, 25)


def times_of(
    times: VideoTimes, pts: list[int], time_base: Fraction = Fraction(1, 1000), **key: int
) -> list[int]:
    return [times.next_ticks(presented(0, pts=each, time_base=time_base, **key).frame) for each in pts]


def test_the_times_of_a_source_are_kept_gaps_and_start_included() -> None:
    times = VideoTimes(Fraction(1, 1000), PERIOD)
    assert times_of(times, [5000, 5040, 5200, 5201, 99000]) == [5000, 5040, 5200, 5201, 99000]
    assert (times.nudged, times.restarted) == (0, 0)


def test_a_negative_first_time_is_kept() -> None:
    assert times_of(VideoTimes(Fraction(1, 1000), PERIOD), [-80, -40, 0]) == [-80, -40, 0]


@pytest.mark.parametrize("key", [{"loop": 1}, {"source_id": 1}])
def test_the_next_loop_or_source_follows_one_frame_period_after(key: dict[str, int]) -> None:
    times = VideoTimes(Fraction(1, 1000), PERIOD)
    assert times_of(times, [0, 40, 80]) == [0, 40, 80]
    assert times_of(times, [7, 57], **key) == [120, 170]
    assert (times.nudged, times.restarted) == (0, 0)


def test_a_source_of_another_time_base_is_converted() -> None:
    times = VideoTimes(Fraction(1, 12800), PERIOD)
    assert times_of(times, [0, 1, 2], Fraction(1, 25)) == [0, 512, 1024]
    assert times_of(times, [0, 3000, 6000], Fraction(1, 90000), source_id=1) == [1536, 1963, 2389]


def test_a_repeated_or_slightly_earlier_time_moves_by_one_tick_and_is_counted() -> None:
    times = VideoTimes(Fraction(1, 1000), PERIOD)
    assert times_of(times, [0, 80, 80, 40, 120]) == [0, 80, 81, 82, 120]
    assert (times.nudged, times.restarted) == (2, 0)


def test_a_jump_back_by_a_second_is_a_new_beginning() -> None:
    """Moving each frame by a tick instead would show a minute of frames within a moment."""
    times = VideoTimes(Fraction(1, 1000), PERIOD)
    assert times_of(times, [60000, 60040, 0, 40, 80]) == [60000, 60040, 60080, 60120, 60160]
    assert (times.nudged, times.restarted) == (0, 1)


def test_a_file_without_a_start_time_begins_at_zero() -> None:
    assert times_of(VideoTimes(PERIOD, PERIOD, from_zero=True), [5000, 5040, 5200]) == [0, 1, 5]
