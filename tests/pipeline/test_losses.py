"""Frames that were lost are named one by one, with their cause, and told until somebody took it."""

from endostream.pipeline.frame import FrameKey, Lost
from endostream.pipeline.losses import LossLog

from .core_fixtures import header


def key(seq: int, loop: int = 0) -> FrameKey:
    return FrameKey(0, loop, seq)


def test_nothing_is_lost_where_every_frame_comes() -> None:
    log = LossLog(key(0))
    for seq in range(3):
        log.received(header(seq))
    assert log.pending == ()


def test_a_hole_is_split_into_what_the_source_lost_and_what_was_not_delivered() -> None:
    log = LossLog(key(0))
    log.received(header(0))
    log.received(header(6, gap=2))
    assert log.pending == (Lost(key(1), 3, "not_delivered"), Lost(key(4), 2, "lost_at_source"))


def test_a_gap_as_large_as_a_header_can_tell_stands_for_the_whole_hole() -> None:
    log = LossLog(key(0))
    log.received(header(1000, gap=255))
    assert log.pending == (Lost(key(0), 1000, "lost_at_source"),)


def test_frames_dropped_in_a_row_for_one_cause_are_one_range() -> None:
    log = LossLog(key(0))
    for seq in range(4):
        log.received(header(seq))
    for seq in (0, 1):
        log.lost(key(seq), "superseded")
    log.lost(key(2), "overwritten")
    assert log.pending == (Lost(key(0), 2, "superseded"), Lost(key(2), 1, "overwritten"))


def test_what_was_told_is_told_once() -> None:
    log = LossLog(key(0))
    log.lost(key(0), "superseded")
    log.told()
    assert log.pending == ()


def test_a_successor_names_what_came_while_nobody_listened() -> None:
    log = LossLog(key(10))
    log.received(header(14))
    assert log.pending == (Lost(key(10), 4, "not_delivered"),)


def test_a_new_loop_begins_at_its_first_frame() -> None:
    log = LossLog(key(50))
    log.received(header(1, key=key(1, loop=1)))
    assert log.pending == (Lost(key(0, loop=1), 1, "not_delivered"),)


def test_a_frame_that_comes_again_changes_nothing() -> None:
    log = LossLog(key(0))
    for seq in (0, 1, 2, 1, 3):
        log.received(header(seq))
    assert log.pending == ()


def test_what_nobody_takes_does_not_grow_for_ever() -> None:
    log = LossLog(key(0))
    for seq in range(0, 10_000, 2):
        log.lost(key(seq), "superseded")
    assert len(log.pending) == 1000
