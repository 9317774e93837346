"""The wire: what is packed comes back, and whatever else is there raises WireError, nothing else, and costs nothing."""

import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endostream.pipeline.frame import Annotation, Box, FrameKey, Lost, MaskState, Stamp
from endostream.pipeline.wire import (
    HEAD_BYTES,
    STAGE_NAMES,
    FrameHeader,
    Head,
    Kind,
    MaskHeader,
    MaskShape,
    Place,
    PresentedHeader,
    TensorHeader,
    WireError,
    pack_fail,
    pack_head,
    unpack_fail,
    unpack_frame,
    unpack_head,
    unpack_mask,
    unpack_presented,
    unpack_tensor,
)

from .core_fixtures import header

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

u8, u32 = st.integers(0, 2**8 - 1), st.integers(0, 2**32 - 1)
u64, i32 = st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
positive = st.integers(1, 2**63 - 1)
some_i64 = st.integers(-(2**63) + 1, 2**63 - 1)
"""All but the value that stands for None."""
stamps = st.builds(Stamp, st.sampled_from(STAGE_NAMES), i64, i64)
keys = st.builds(FrameKey, u32, u32, u64)
frames = st.builds(
    FrameHeader,
    key=keys,
    pts=i64,
    time_base=st.builds(Fraction, positive, positive),
    capture_ns=st.integers(0, 2**62),
    size_hw=st.tuples(u32, u32),
    ring=u32,
    slot=u32,
    generation=u64,
    attempt=u8,
    stamps=st.lists(stamps, max_size=6).map(tuple),
    gap=u8,
)
ints = st.lists(i32, max_size=12).map(tuple)
sizes = st.tuples(u32, u32)
tensors = st.builds(TensorHeader, frames, ints, sizes, ints)
masks = st.builds(MaskHeader, frames, ints, sizes, u32, ints)
causes = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
boxes = st.builds(Box, u32, u32, u32, u32)
notes = st.builds(
    Annotation,
    state=st.sampled_from(MaskState),
    mask_seq=st.none() | some_i64,
    mask_age_ns=st.none() | some_i64,
    boxes=st.lists(boxes, max_size=5).map(tuple),
    area_px=i64,
    mask_crc32=st.none() | u32,
    cause=causes,
)
lost_frames = st.builds(Lost, keys, u64, causes)
presented = st.builds(
    PresentedHeader,
    frames,
    notes,
    i64,
    st.none() | some_i64,
    st.booleans(),
    st.lists(stamps, max_size=4).map(tuple),
    st.none() | boxes,
    st.lists(lost_frames, max_size=3).map(tuple),
)

BODIES: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "frame": (header(stamps=(Stamp("capture", 1, 2), Stamp("infer", 3, 4))).pack(), unpack_frame),
    "fail": (pack_fail(header(3), "infer: out of memory"), unpack_fail),
    "tensor": (TensorHeader(header(), (4, 6, 0, 0, 4, 6, 2, 2), (2, 2), (1, 2)).pack(), unpack_tensor),
    "mask": (MaskHeader(header(), (4, 6, 0, 0, 4, 6, 2, 2), (2, 2), 7, (3,)).pack(), unpack_mask),
    "presented": (
        PresentedHeader(
            header(),
            Annotation(MaskState.HELD, 1, 2, (Box(1, 2, 3, 4),), 5, 6, "ü"),
            7,
            8,
            True,
            (Stamp("capture", 1, 2),),
            Box(5, 6, 7, 8),
            (Lost(FrameKey(0, 0, 1), 2, "superseded"),),
            Place(3, 4, 6),
            MaskShape((2, 2), (4, 6, 0, 0, 4, 6, 2, 2), (9, -9)),
            (1, 2, 3, 4),
        ).pack(),
        unpack_presented,
    ),
}
every_body = pytest.mark.parametrize("name", BODIES)


@quick
@given(st.builds(Head, st.sampled_from(Kind), u64, u64, u64), st.binary(max_size=20))
def test_a_head_comes_back_as_it_was_whatever_follows_it(head: Head, body: bytes) -> None:
    packed = pack_head(head)
    assert len(packed) == HEAD_BYTES == 32
    assert unpack_head(packed + body) == head


@quick
@given(frames)
def test_a_frame_comes_back_as_it_was(frame: FrameHeader) -> None:
    packed = frame.pack()
    assert len(packed) == 83 + 17 * len(frame.stamps)
    assert unpack_frame(packed) == frame


@quick
@given(tensors)
def test_a_tensor_header_comes_back_as_it_was(tensor: TensorHeader) -> None:
    assert unpack_tensor(tensor.pack()) == tensor


@quick
@given(masks)
def test_a_mask_header_comes_back_as_it_was(mask: MaskHeader) -> None:
    assert unpack_mask(mask.pack()) == mask


@quick
@given(presented)
def test_a_presented_frame_comes_back_as_it_was(sent: PresentedHeader) -> None:
    assert unpack_presented(sent.pack()) == sent


@quick
@given(frames, causes)
def test_a_failure_comes_back_with_its_cause(frame: FrameHeader, cause: str) -> None:
    assert unpack_fail(pack_fail(frame, cause)) == (frame, cause)


def test_a_cause_of_any_length_travels_cut_to_2000_bytes() -> None:
    _, cause = unpack_fail(pack_fail(header(), "ü" * 100_000))
    assert cause == "ü" * 1000


def test_a_cause_with_a_file_name_that_is_no_text_travels() -> None:
    # An error message about such a file holds lone surrogates, which UTF-8 cannot encode.
    _, cause = unpack_fail(pack_fail(header(), "no such file: \udcff.onnx"))
    assert cause == "no such file: ?.onnx"


@every_body
def test_every_truncation_of_a_body_is_a_wire_error(name: str) -> None:
    body, unpack = BODIES[name]
    unpack(body)
    for length in range(len(body)):
        with pytest.raises(WireError):
            unpack(body[:length])


@every_body
def test_a_body_with_bytes_too_many_is_a_wire_error(name: str) -> None:
    body, unpack = BODIES[name]
    with pytest.raises(WireError, match="1 bytes too many"):
        unpack(body + b"\0")


@every_body
def test_every_mutation_of_a_byte_parses_or_is_a_wire_error(name: str) -> None:
    body, unpack = BODIES[name]
    for place in range(len(body)):
        for value in (0, 1, 127, 128, 255):
            mutated = body[:place] + bytes([value]) + body[place + 1 :]
            try:
                parsed = unpack(mutated)
            except WireError:
                continue
            assert type(parsed) is type(unpack(body))


@every_body
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_garbage_parses_or_is_a_wire_error(name: str, data: st.DataObject) -> None:
    body, unpack = BODIES[name]
    mutated = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=8)):
        mutated[place] = data.draw(u8)
    for garbage in (bytes(mutated), data.draw(st.binary(max_size=200))):
        try:
            unpack(garbage)
        except WireError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_a_head_of_garbage_is_a_wire_error(garbage: bytes) -> None:
    with pytest.raises(WireError):
        unpack_head(garbage)


def test_every_truncation_of_a_head_is_a_wire_error() -> None:
    packed = pack_head(Head(Kind.FRAME, 1, 2, 3))
    for length in range(len(packed)):
        with pytest.raises(WireError, match=f"message: {length} bytes; expected at least 32"):
            unpack_head(packed[:length])


def test_another_version_is_refused_by_naming_both() -> None:
    packed = bytearray(pack_head(Head(Kind.FRAME, 1, 2, 3)))
    packed[4] = 9
    with pytest.raises(WireError, match=r"wire version: 9; expected 2. Try: the same endostream on both"):
        unpack_head(bytes(packed))


@pytest.mark.parametrize("kind", [0, 14, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    packed = bytearray(pack_head(Head(Kind.FRAME, 1, 2, 3)))
    packed[5] = kind
    with pytest.raises(WireError, match=f"kind: {kind}; expected 1 to 13"):
        unpack_head(bytes(packed))


@pytest.mark.parametrize(("numerator", "denominator"), [(1, 0), (0, 1), (-1, 25), (1, -25)])
def test_a_time_base_that_is_no_positive_fraction_is_refused(numerator: int, denominator: int) -> None:
    body = bytearray(header().pack())
    body[24:40] = struct.pack("<qq", numerator, denominator)
    with pytest.raises(WireError, match="time base"):
        unpack_frame(bytes(body))


def test_an_unknown_stage_in_a_stamp_is_refused() -> None:
    body = bytearray(header(stamps=(Stamp("capture", 1, 2),)).pack())
    body[83] = 5
    with pytest.raises(WireError, match="stage: 5; expected 0 to 4"):
        unpack_frame(bytes(body))


def _peak_bytes(body: bytes, unpack: Callable[[bytes], Any]) -> int:
    tracemalloc.start()
    with pytest.raises(WireError):
        unpack(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_crafted_count_of_boxes_costs_no_memory() -> None:
    body = bytearray(PresentedHeader(header(), Annotation(), 0, None, False).pack())
    body[83 + 50 : 83 + 54] = struct.pack("<I", 2**32 - 1)
    assert _peak_bytes(bytes(body), unpack_presented) < 100_000


def test_a_crafted_length_of_text_costs_no_memory() -> None:
    body = bytearray(pack_fail(header(), ""))
    body[83:85] = struct.pack("<H", 2**16 - 1)
    assert _peak_bytes(bytes(body), unpack_fail) < 100_000


@pytest.mark.parametrize("name", ["tensor", "mask"])
def test_a_crafted_count_of_numbers_costs_little_memory(name: str) -> None:
    body, unpack = BODIES[name]
    crafted = body[:83] + struct.pack("<H", 2**16 - 1) + body[85:]
    assert _peak_bytes(crafted, unpack) < 100_000


def test_a_crafted_count_of_stamps_is_refused_where_the_body_ends() -> None:
    body = bytearray(header().pack())
    body[82] = 255
    assert _peak_bytes(bytes(body), unpack_frame) < 100_000


@pytest.mark.parametrize("raw", [None, Place(1, 2, 4)])
@pytest.mark.parametrize("mask", [None, MaskShape((2, 3), (1, 2, 3), ())])
def test_where_the_raw_picture_lies_and_what_the_mask_means_come_back(
    raw: Place | None, mask: MaskShape | None
) -> None:
    sent = PresentedHeader(header(), Annotation(), 0, None, False, raw=raw, mask=mask, blank_view=(7,))
    assert unpack_presented(sent.pack()) == sent


@pytest.mark.parametrize("capture_ns", [-1, -(1 << 63), (1 << 62) + 1])
def test_a_capture_time_that_is_none_is_refused(capture_ns: int) -> None:
    with pytest.raises(WireError, match="capture time: "):
        unpack_frame(header(0, capture_ns=capture_ns).pack())
