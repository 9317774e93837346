"""The records that travel: times in nanoseconds, and what a mask state means."""

from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest

from endostream.pipeline.frame import (
    Annotation,
    Frame,
    FrameKey,
    MaskState,
    Presented,
    SourcePicture,
    Stamp,
)

from .core_fixtures import solid

FRAME = Frame(FrameKey(1, 2, 3), 90, Fraction(1, 30), 1_000, solid(7), (Stamp("capture", 1_000, 1_000),))


def test_a_stamp_is_added_behind_those_that_are_there_and_the_frame_stays_as_it_was() -> None:
    later = FRAME.stamped(Stamp("overlay", 1_500, 1_900))
    assert [stamp.stage for stamp in later.stamps] == ["capture", "overlay"]
    assert [stamp.stage for stamp in FRAME.stamps] == ["capture"]


def test_a_frame_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        FRAME.pts = 0  # type: ignore[misc]


def test_video_delay_goes_from_capture_to_presentation() -> None:
    assert Presented(FRAME, present_ns=3_500).video_delay_ns == 2_500


def test_stream_time_is_pts_in_units_of_the_time_base() -> None:
    picture = SourcePicture(0, 45, Fraction(1, 30), (4, 6), lambda image_bgr: None)
    assert picture.time_s == 1.5


@pytest.mark.parametrize(
    ("state", "label", "drawn"),
    [
        (MaskState.ABSENT, "absent", False),
        (MaskState.FRESH, "fresh", True),
        (MaskState.HELD, "held", True),
        (MaskState.STALE, "stale", False),
        (MaskState.FAILED, "failed", False),
    ],
)
def test_marks_are_drawn_only_for_fresh_and_held_masks(state: MaskState, label: str, drawn: bool) -> None:
    assert (state.label, state.drawn) == (label, drawn)


def test_an_annotation_says_nothing_was_computed_unless_told() -> None:
    assert Annotation() == Annotation(MaskState.ABSENT, None, None, (), 0, None, "")
