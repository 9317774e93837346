"""Times of packets in a session's raw video: kept, growing, and laid behind what was before."""

from fractions import Fraction

import pytest

from endostream.pipeline.sessions.packets import SourcePacket
from endostream.pipeline.sessions.session_times import RawTimes

SECOND_NS = 1_000_000_000


def packet(pts: int, dts: int | None = None, *, loop: int = 0, at_s: float = 0.0) -> SourcePacket:
    dts = pts if dts is None else dts
    name = (0, loop, int(at_s * SECOND_NS), 0)
    return SourcePacket(*name, pts, dts, 3600, Fraction(1, 90_000), True, b"s", b"data")


def test_a_part_begins_at_0_whatever_the_senders_times_are_and_keeps_their_distances() -> None:
    times = RawTimes()
    placed = [times.of_packet(packet(900_000 + n), live=True) for n in (0, 3600, 7200, 18_000)]
    assert placed == [(0, 0), (40, 40), (80, 80), (200, 200)]


def test_pictures_that_are_shown_in_another_order_than_they_are_decoded_keep_both() -> None:
    times = RawTimes()
    placed = [
        times.of_packet(packet(pts, dts), False) for pts, dts in ((7200, 0), (14_400, 3600), (10_800, 7200))
    ]
    assert placed == [(80, 0), (160, 40), (120, 80)]


@pytest.mark.parametrize("begins_at", [0, 90_000 * 3600])
def test_a_live_sender_that_begins_anew_leaves_the_gap_there_was(begins_at: int) -> None:
    times = RawTimes()
    times.of_packet(packet(450_000, at_s=1.0), live=True)
    times.of_packet(packet(900_000, at_s=6.0), live=True)
    assert times.of_packet(packet(begins_at, at_s=8.5), live=True) == (7500, 7500)


def test_another_loop_of_a_file_goes_on_one_frame_later() -> None:
    times = RawTimes()
    times.of_packet(packet(0), live=False)
    times.of_packet(packet(3600), live=False)
    assert times.of_packet(packet(0, loop=1, at_s=100), live=False) == (80, 80)


def test_pictures_that_are_encoded_have_the_overlays_times_unless_these_stand_still() -> None:
    times = RawTimes()
    assert [times.of_frame(ms) for ms in (0, 40, 40, 120)] == [0, 40, 41, 120]


def test_a_packet_follows_on_a_picture_that_was_encoded() -> None:
    times = RawTimes()
    times.of_frame(1000)
    assert times.of_packet(packet(0), live=False) == (1040, 1040)
