"""What overlay says of a frame in every state, and that drawing changes the marks and the HUD and nothing else."""

import zlib
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from endostream.configs.schema import OverlaySettings
from endostream.models.field_of_view import FieldOfView
from endostream.models.transform import Rect, Transform
from endostream.pipeline.draw import MarkStyle, marked_pixels
from endostream.pipeline.frame import Annotation, Box, FrameKey, ImageBgr, MaskState
from endostream.pipeline.overlay import (
    Answer,
    Blanker,
    OverlayStage,
    answer_from_mask,
    answer_from_recorded,
    failure,
)
from endostream.pipeline.wire import FrameHeader, MaskHeader, MaskShape, PresentedHeader

from .core_fixtures import PERIOD_NS, header

SIZE = (240, 320)
INPUT = (96, 96)


def tissue() -> ImageBgr:
    """A picture with structure everywhere, so that any changed pixel shows."""
    rng = np.random.default_rng(4)
    small = rng.integers(40, 200, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(small, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)


def frame(seq: int, **more: Any) -> FrameHeader:
    return header(seq, **{"size_hw": SIZE, **more})


def packed_square(top: int = 30, left: int = 30, side: int = 20) -> bytes:
    mask = np.zeros(INPUT, np.bool_)
    mask[top : top + side, left : left + side] = True
    return np.packbits(mask).tobytes()


def mask_header(seq: int, packed: bytes, **more: Any) -> MaskHeader:
    transform = Transform.of_picture(SIZE, INPUT).to_ints()
    made = MaskHeader(frame(seq), transform, INPUT, zlib.crc32(packed))
    return replace(made, **more)


def answer(seq: int, packed: bytes | None = None) -> Answer:
    packed = packed_square() if packed is None else packed
    return answer_from_mask(mask_header(seq, packed), packed)


def running(hold_ms: float = 200.0, **more: Any) -> OverlayStage:
    """An overlay that has seen frames 0 to 4, 40 ms apart."""
    stage = OverlayStage(OverlaySettings(hold_ms=hold_ms, **more), "fcm")
    for seq in range(5):
        stage.annotate(frame(seq), None)
    return stage


STATES: list[tuple[str, Answer | None, str, MaskState]] = [
    ("nothing yet", None, "", MaskState.ABSENT),
    ("of this frame", answer(5), "", MaskState.FRESH),
    ("of the frame before", answer(4), "", MaskState.FRESH),
    ("of two frames before", answer(3), "", MaskState.HELD),
    ("at the hold limit", answer(0), "", MaskState.HELD),
    ("past the hold limit", replace(answer(0), capture_ns=frame(0).capture_ns - 1), "", MaskState.STALE),
    ("of a frame to come", answer(6), "", MaskState.FRESH),
    ("path down with a fresh mask", answer(5), "infer down", MaskState.FAILED),
    ("path down without a mask", None, "infer down", MaskState.FAILED),
    ("path down with a stale mask", replace(answer(0), capture_ns=1), "infer down", MaskState.FAILED),
    ("a failure for an answer", failure(frame(5), "out of memory"), "", MaskState.FAILED),
]


@pytest.mark.parametrize(("given", "down", "state"), [row[1:] for row in STATES], ids=[r[0] for r in STATES])
def test_the_state_follows_from_the_masks_age_and_the_health_of_the_path(
    given: Answer | None, down: str, state: MaskState
) -> None:
    note = running().annotate(frame(5), given, down)
    assert note.state is state
    assert bool(note.boxes) == (note.area_px > 0) == (given is not None and state.drawn)


def test_a_mask_is_named_by_its_frame_its_age_and_its_sum_in_every_state() -> None:
    for seq, state in ((5, MaskState.FRESH), (3, MaskState.HELD)):
        note = running().annotate(frame(5), answer(seq))
        expected = (state, seq, (5 - seq) * PERIOD_NS, zlib.crc32(packed_square()))
        assert (note.state, note.mask_seq, note.mask_age_ns, note.mask_crc32) == expected


def test_a_failure_says_why_and_other_states_say_nothing() -> None:
    assert running().annotate(frame(5), failure(frame(5), "out of memory")).cause == "out of memory"
    assert running().annotate(frame(5), None, "infer down").cause == "infer down"
    assert running().annotate(frame(5), answer(5), "infer down").cause == "infer down"
    assert running().annotate(frame(5), answer(5)).cause == ""
    assert running().annotate(frame(5), None).cause == ""
    waiting = running().annotate(frame(5), None, "", "building engine 40 %")
    assert (waiting.state, waiting.cause) == (MaskState.ABSENT, "building engine 40 %")
    assert running().annotate(frame(5), answer(5), "", "building engine 40 %").cause == ""


def test_a_mask_that_is_not_drawn_has_no_boxes_and_no_area() -> None:
    note = running().annotate(frame(5), answer(5), "infer down")
    assert (note.boxes, note.area_px) == ((), 0)
    stale = running(hold_ms=0.0).annotate(frame(9), answer(0))
    assert (stale.state, stale.boxes, stale.area_px) == (MaskState.STALE, (), 0)


def test_an_empty_mask_is_fresh_and_finds_nothing_which_is_not_the_same_as_no_mask() -> None:
    nothing = bytes(INPUT[0] * INPUT[1] // 8)
    note = running().annotate(frame(5), answer(5, nothing))
    assert (note.state, note.boxes, note.area_px, note.mask_seq) == (MaskState.FRESH, (), 0, 5)
    assert running().annotate(frame(5), None).mask_seq is None


def test_the_very_first_frame_with_its_own_mask_is_fresh() -> None:
    stage = OverlayStage(OverlaySettings(), "fcm")
    assert stage.annotate(frame(0), answer(0)).state is MaskState.FRESH


@pytest.mark.parametrize(
    "other",
    [
        frame(5, key=FrameKey(1, 0, 5)),
        frame(5, key=FrameKey(0, 1, 5)),
        frame(5, size_hw=(480, 640)),
    ],
    ids=["another source", "another loop", "another picture size"],
)
def test_a_mask_of_another_source_loop_or_size_is_never_used(other: FrameHeader) -> None:
    stage = running()
    stage.take(answer(5))
    assert stage.current(frame(5)) is not None
    assert stage.current(other) is None


def test_before_the_first_answer_there_is_none() -> None:
    assert running().current(frame(5)) is None


def test_taking_a_newer_answer_tells_whether_the_one_before_was_ever_shown() -> None:
    stage = running()
    first, second, third = answer(3), answer(4), answer(5)
    assert stage.take(first) is None
    assert stage.take(second) is first
    second.presented = True
    assert stage.take(third) is None


def test_the_frame_period_is_a_running_mean_that_starts_with_the_second_frame() -> None:
    stage = OverlayStage(OverlaySettings(), "fcm")
    stage.annotate(frame(0), None)
    assert stage.interval_ns is None
    stage.annotate(frame(1), None)
    assert stage.interval_ns == PERIOD_NS
    stage.annotate(frame(2, capture_ns=frame(1).capture_ns + PERIOD_NS // 2), None)
    assert stage.interval_ns == PERIOD_NS * 0.75


def test_a_gap_of_seconds_hardly_stretches_the_frame_period() -> None:
    stage = OverlayStage(OverlaySettings(), "fcm")
    for seq in range(10):
        stage.annotate(frame(seq), None)
    stage.annotate(frame(10, capture_ns=frame(9).capture_ns + 100 * PERIOD_NS), None)
    assert stage.interval_ns == pytest.approx(1.1 * PERIOD_NS)


def test_the_second_frame_with_the_mask_of_the_first_is_fresh() -> None:
    stage = OverlayStage(OverlaySettings(), "fcm")
    stage.annotate(frame(0), None)
    assert stage.annotate(frame(1), answer(0)).state is MaskState.FRESH


def test_the_time_between_two_sources_is_no_frame_period() -> None:
    stage = running()
    stage.annotate(frame(0, key=FrameKey(1, 0, 0), capture_ns=10**15), None)
    assert stage.interval_ns == PERIOD_NS


@pytest.mark.parametrize("given", [answer(5), answer(5, packed_square(0, 0, 96)), answer(3)])
@pytest.mark.parametrize(
    ("contour", "box", "alpha"), [(True, True, 0.25), (False, False, 1.0), (True, False, 0.0)]
)
def test_pixels_outside_marks_and_hud_stay_as_they_were_byte_for_byte(
    given: Answer, contour: bool, box: bool, alpha: float
) -> None:
    stage = running(contour=contour, box=box, fill_alpha=alpha)
    before, image = tissue(), tissue()
    note = stage.annotate(frame(5), given)
    hud = stage.draw(image, note, given, 0.2)
    style = MarkStyle(OverlaySettings().colour_bgr, alpha, contour, box)
    allowed = marked_pixels(given.marks, style, SIZE)
    if hud is not None:
        allowed[hud.y : hud.y + hud.height, hud.x : hud.x + hud.width] = True
    changed = (image != before).any(axis=2)
    assert changed.any()
    assert not (changed & ~allowed).any()


@pytest.mark.parametrize("state", [MaskState.ABSENT, MaskState.STALE, MaskState.FAILED])
def test_where_no_mask_is_drawn_only_the_hud_changes_the_picture(state: MaskState) -> None:
    stage = running()
    before, image = tissue(), tissue()
    hud = stage.draw(image, Annotation(state, cause="infer down"), answer(5), 0.2)
    assert hud is not None
    changed = (image != before).any(axis=2)
    assert changed.any()
    changed[hud.y : hud.y + hud.height, hud.x : hud.x + hud.width] = False
    assert not changed.any()


def test_without_hud_and_marks_the_picture_is_the_captured_one() -> None:
    stage = running(hud=False)
    image = tissue()
    assert stage.draw(image, stage.annotate(frame(5), None), None, 0.2) is None
    assert (image == tissue()).all()


def test_nothing_found_and_not_working_never_look_alike() -> None:
    nothing = answer(5, bytes(INPUT[0] * INPUT[1] // 8))
    pictures = []
    for given, down in (
        (nothing, ""),
        (None, ""),
        (None, "infer down"),
        (replace(nothing, capture_ns=1), ""),
    ):
        stage, image = running(), tissue()
        stage.draw(image, stage.annotate(frame(5), given, down), given, 0.2)
        pictures.append(image.tobytes())
    assert len(set(pictures)) == 4


def test_a_mask_lands_where_its_transform_puts_it() -> None:
    # 96 × 96 shows 240 × 320 with 72 × 96 of content: 3 1/3 picture pixels to one of the input.
    made = answer(0, packed_square(top=12, left=0, side=24))
    (component,) = made.marks.components
    assert component.box == Box(0, 0, 80, 80)
    assert made.view_rect == Rect(0, 0, 240, 320)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_hw": (96, 95)}, "mask: 1152 bytes; expected 96 × 95 bits"),
        ({"size_hw": (2**32 - 1, 2**32 - 1)}, "mask: 1152 bytes"),
        ({"size_hw": (0, 0)}, "mask: 1152 bytes"),
        ({"size_hw": (48, 192)}, "transform: .*; expected one of"),
        ({"transform": ()}, "transform: 0 numbers; expected the 8"),
        ({"transform": (240, 320, 0, 0, 999, 320, 96, 96)}, "transform: region"),
        ({"transform": (240, 320, 0, 0, 0, 0, 96, 96)}, "transform: region"),
        ({"transform": (-240, 320, 0, 0, 240, 320, 96, 96)}, "transform: region"),
        ({"transform": (480, 640, 0, 0, 480, 640, 96, 96)}, "transform: .*; expected one of"),
    ],
)
def test_a_mask_that_does_not_fit_its_frame_is_refused(change: dict[str, Any], message: str) -> None:
    packed = packed_square()
    with pytest.raises(ValueError, match=message):
        answer_from_mask(mask_header(0, packed, **change), packed)


@pytest.mark.parametrize("packed", [b"", b"\xff", bytes(1151), bytes(1153)])
def test_a_payload_of_another_length_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=f"mask: {len(packed)} bytes; expected 96 × 96 bits"):
        answer_from_mask(mask_header(0, packed), packed)


@settings(max_examples=40, deadline=None)
@for_all(st.binary(min_size=1152, max_size=1152))
def test_any_bits_make_an_answer_whose_marks_lie_inside_the_picture(packed: bytes) -> None:
    for box in answer(0, packed).marks.boxes:
        assert 0 <= box.x <= box.x + box.width <= SIZE[1]
        assert 0 <= box.y <= box.y + box.height <= SIZE[0]


VIEW = FieldOfView(SIZE, Rect(20, 40, 200, 240))


def seen(seq: int = 5) -> Answer:
    return replace(answer(seq), view=VIEW)


def test_until_the_view_is_known_everything_but_the_hud_is_blanked() -> None:
    image = np.full((*SIZE, 3), 200, np.uint8)
    Blanker().blank(image, frame(0), None, Box(10, 20, 30, 40))
    assert (image[20:60, 10:40] == 200).all()
    assert int(image.sum()) == 200 * 3 * 30 * 40


def test_once_the_view_is_known_only_what_lies_outside_is_blanked() -> None:
    image = np.full((*SIZE, 3), 200, np.uint8)
    Blanker().blank(image, frame(5), seen(), None)
    assert (image[20:220, 40:280] == 200).all()
    assert int(image.sum()) == 200 * 3 * 200 * 240


def test_a_view_once_known_stays_until_source_or_size_change() -> None:
    blanker = Blanker()
    blanker.blank(np.full((*SIZE, 3), 200, np.uint8), frame(5), seen(), None)
    image = np.full((*SIZE, 3), 200, np.uint8)
    blanker.blank(image, frame(6), None, None)
    assert image.any()
    blanker.blank(image, frame(0, key=FrameKey(1, 0, 0)), seen(), None)
    assert not image.any()


def test_a_view_of_another_source_is_not_taken() -> None:
    image = np.full((*SIZE, 3), 200, np.uint8)
    Blanker().blank(image, frame(0, key=FrameKey(1, 0, 0)), seen(), None)
    assert not image.any()


def test_findings_smaller_than_the_least_share_are_left_out() -> None:
    packed = packed_square(10, 10, 8)
    small = answer_from_mask(mask_header(0, packed), packed)
    assert small.marks.area_px > 0
    least = 2 * small.marks.area_px / (SIZE[0] * SIZE[1])
    assert answer_from_mask(mask_header(0, packed), packed, least).marks.area_px == 0


def recorded(state: MaskState, mask_seq: int | None = 2) -> Answer:
    """What a session that is played back says of frame 5."""
    packed = packed_square()
    note = Annotation(state, mask_seq, 120_000_000, mask_crc32=zlib.crc32(packed), cause="")
    shape = MaskShape(INPUT, Transform.of_picture(SIZE, INPUT).to_ints())
    return answer_from_recorded(PresentedHeader(frame(5), note, 0, None, False, mask=shape), packed)


@pytest.mark.parametrize("state", [MaskState.FRESH, MaskState.HELD, MaskState.STALE, MaskState.FAILED])
def test_a_session_is_played_back_with_the_state_and_age_that_were_recorded(state: MaskState) -> None:
    note = running().annotate(frame(5), recorded(state))
    assert (note.state, note.mask_seq, note.mask_age_ns) == (state, 2, 120_000_000)
    assert bool(note.boxes) == bool(note.area_px) == state.drawn


def test_a_frame_that_had_no_mask_has_none_when_it_is_played_back() -> None:
    waiting = Annotation(MaskState.ABSENT, cause="infer starts")
    answered = answer_from_recorded(PresentedHeader(frame(5), waiting, 0, None, False), b"")
    assert running().annotate(frame(5), answered) == waiting


def test_what_was_recorded_of_another_frame_is_judged_by_its_age() -> None:
    note = running().annotate(frame(6), recorded(MaskState.FAILED))
    assert (note.state, note.mask_seq, note.mask_age_ns) == (MaskState.FRESH, 5, PERIOD_NS)
