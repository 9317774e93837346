"""The wire format: what a message of a link looks like, byte by byte. No pickle, no JSON, little-endian.

Every message is one or two ZeroMQ parts: a head with a body, then perhaps a payload (tensor or packed mask).

Head, 32 bytes::

    4s  magic  "ENDO"
    B   version of this format
    B   kind (Kind)
    H   reserved, 0
    Q   writer epoch: random, new with every start of the writing stage
    Q   reader epoch the message is meant for (0 in SYN)
    Q   number of the message, counted by the writer; in ACK the number acknowledged

Body by kind: FRAME a frame header; TENSOR a frame header, a transform, the tensor's height and width, the field of
view; MASK the same and a CRC-32 before the view; PRESENTED a frame header, an annotation, the stamps of its mask, the
HUD's rectangle, the frames lost before, where the picture without marks lies, the mask's size, transform and view (its
packed bits are the payload) and the view outside of which is blanked; FAIL a frame header and a cause; PACKET what
``packets.py`` says; RECORDED, the answer of a session that is played back, the same as PRESENTED; SYN, HELLO, ACK and
EOS nothing. What a tower and an infer host on another machine say to each other has the same head; its bodies are in
``remote_wire.py``. REFUSED is the same in every version: the head, then a text.

A message that cannot be parsed raises ``WireError``; a link counts it and goes on.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import NamedTuple

from .frame import Annotation, Box, FrameKey, Lost, MaskState, SizeHW, Stamp

VERSION = 2
MAGIC = b"ENDO"
STAGE_NAMES = ("capture", "preprocess", "infer", "overlay", "record")

_HEAD = struct.Struct("<4sBBHQQQ")
_FRAME = struct.Struct("<IIQqqqqqIIQIIBBB")
_STAMP = struct.Struct("<Bqq")
_INTS_LENGTH = struct.Struct("<H")
_SIZE = struct.Struct("<II")
_CRC = struct.Struct("<I")
_TEXT_LENGTH = struct.Struct("<H")
_ANNOTATION = struct.Struct("<BBqqqqqqIH")
_BOX = struct.Struct("<IIII")
_COUNTS = struct.Struct("<BBH")
_LOST = struct.Struct("<IIQQ")
_PLACE = struct.Struct("<IIQ")
HEAD_BYTES = _HEAD.size
_LATEST_NS = 1 << 62
"""A monotonic clock gets there in 146 years; differences of such times fit a cell of the board."""


class WireError(ValueError):
    """Bytes that are no message of this format."""


class OtherVersion(WireError):
    """A message of another version of this format."""


class Kind(IntEnum):
    """Kinds of message."""

    SYN = 1
    HELLO = 2
    ACK = 3
    FRAME = 4
    TENSOR = 5
    MASK = 6
    PRESENTED = 7
    FAIL = 8
    EOS = 9
    PACKET = 10
    REFUSED = 11
    PING = 12
    RECORDED = 13


class Head(NamedTuple):
    """The head of a message, see the module's docstring."""

    kind: Kind
    writer_epoch: int
    reader_epoch: int
    number: int


def pack_head(head: Head) -> bytes:
    """32 bytes."""
    return _HEAD.pack(MAGIC, VERSION, head.kind, 0, head.writer_epoch, head.reader_epoch, head.number)


def unpack_head(data: bytes) -> Head:
    """Raises WireError for anything but a head of this version."""
    if len(data) < HEAD_BYTES:
        raise WireError(f"message: {len(data)} bytes; expected at least {HEAD_BYTES}")
    magic, version, kind, _, writer_epoch, reader_epoch, number = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"magic: {magic!r}; expected {MAGIC!r}")
    if version != VERSION:
        raise OtherVersion(
            f"wire version: {version}; expected {VERSION}. Try: the same endostream on both sides"
        )
    try:
        return Head(Kind(kind), writer_epoch, reader_epoch, number)
    except ValueError as error:
        raise WireError(f"kind: {kind}; expected 1 to {max(Kind)}") from error


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A frame without its picture: ``ring``, ``slot`` and ``generation`` say where that lies.

    ``attempt`` counts from 0 how often it was sent again after a restart. ``gap`` is how many frames the source itself
    lost right before this one, 255 standing for more too. ``packet_ns`` names the packet it was decoded from, 0 for
    none.
    """

    key: FrameKey
    pts: int
    time_base: Fraction
    capture_ns: int
    size_hw: SizeHW
    ring: int
    slot: int
    generation: int
    attempt: int = 0
    stamps: tuple[Stamp, ...] = ()
    gap: int = 0
    packet_ns: int = 0

    def pack(self) -> bytes:
        """83 bytes and 17 for each stamp."""
        head = _FRAME.pack(
            *self.key,
            self.pts,
            self.time_base.numerator,
            self.time_base.denominator,
            self.capture_ns,
            self.packet_ns,
            self.ring,
            self.slot,
            self.generation,
            *self.size_hw,
            self.attempt,
            self.gap,
            len(self.stamps),
        )
        return head + _pack_stamps(self.stamps)


class BodyReader:
    """A cursor over a body; every overrun is a WireError."""

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        """The next values."""
        try:
            values = layout.unpack_from(self.data, self.offset)
        except struct.error as error:
            raise WireError(f"body: {len(self.data)} bytes, cut off at {self.offset}") from error
        self.offset += layout.size
        return values

    def text(self) -> str:
        """The next text; what is no UTF-8 in it is replaced."""
        (length,) = self.take(_TEXT_LENGTH)
        raw = self.data[self.offset : self.offset + length]
        if len(raw) != length:
            raise WireError(f"text: {len(raw)} bytes; expected {length}")
        self.offset += length
        return raw.decode("utf-8", "replace")

    def end(self) -> None:
        """Raise WireError unless all was taken."""
        if self.offset != len(self.data):
            raise WireError(f"body: {len(self.data) - self.offset} bytes too many")


def pack_text(value: str) -> bytes:
    """Its length and its UTF-8, 2000 bytes at most."""
    raw = value.encode("utf-8", "replace")[:2000]  # a file name in it may be no UTF-8
    return _TEXT_LENGTH.pack(len(raw)) + raw


def _pack_stamps(stamps: tuple[Stamp, ...]) -> bytes:
    return b"".join(_STAMP.pack(STAGE_NAMES.index(s.stage), s.received_ns, s.done_ns) for s in stamps)


def _take_stamps(reader: BodyReader, count: int) -> tuple[Stamp, ...]:
    stamps = []
    for _ in range(count):
        stage, received_ns, done_ns = reader.take(_STAMP)
        if stage >= len(STAGE_NAMES):
            raise WireError(f"stage: {stage}; expected 0 to {len(STAGE_NAMES) - 1}")
        stamps.append(Stamp(STAGE_NAMES[stage], received_ns, done_ns))
    return tuple(stamps)


def _take_frame(reader: BodyReader) -> FrameHeader:
    fields = reader.take(_FRAME)
    source_id, loop, seq, pts, numerator, denominator, capture_ns, packet_ns = fields[:8]
    ring, slot, generation, height, width, attempt, gap, stamp_count = fields[8:]
    if denominator <= 0 or numerator <= 0:
        raise WireError(f"time base: {numerator}/{denominator}; expected a positive fraction")
    if not 0 <= capture_ns <= _LATEST_NS:
        raise WireError(f"capture time: {capture_ns} ns; expected 0 to {_LATEST_NS}")
    return FrameHeader(
        FrameKey(source_id, loop, seq),
        pts,
        Fraction(numerator, denominator),
        capture_ns,
        (height, width),
        ring,
        slot,
        generation,
        attempt,
        _take_stamps(reader, stamp_count),
        gap,
        packet_ns,
    )


def unpack_frame(body: bytes) -> FrameHeader:
    """Body of a FRAME."""
    reader = BodyReader(body)
    header = _take_frame(reader)
    reader.end()
    return header


def pack_fail(header: FrameHeader, cause: str) -> bytes:
    """Body of a FAIL: the frame and why it gets no mask."""
    return header.pack() + pack_text(cause)


def unpack_fail(body: bytes) -> tuple[FrameHeader, str]:
    """Body of a FAIL."""
    reader = BodyReader(body)
    result = _take_frame(reader), reader.text()
    reader.end()
    return result


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What travels with a tensor: its frame, the transform that made it (ints), its height and width.

    ``view`` is the field of view as ints, empty as long as it is not known.
    """

    frame: FrameHeader
    transform: tuple[int, ...]
    size_hw: SizeHW
    view: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Frame header, transform, size, view."""
        return b"".join(
            (self.frame.pack(), _pack_ints(self.transform), _SIZE.pack(*self.size_hw), _pack_ints(self.view))
        )


@dataclass(frozen=True, slots=True)
class MaskHeader:
    """What travels with a mask: as TensorHeader, and the CRC-32 of its packed bits."""

    frame: FrameHeader
    transform: tuple[int, ...]
    size_hw: SizeHW
    crc32: int
    view: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Frame header, transform, size, sum, view."""
        return b"".join(
            (
                self.frame.pack(),
                _pack_ints(self.transform),
                _SIZE.pack(*self.size_hw),
                _CRC.pack(self.crc32),
                _pack_ints(self.view),
            )
        )


def _pack_ints(values: tuple[int, ...]) -> bytes:
    return _INTS_LENGTH.pack(len(values)) + struct.pack(f"<{len(values)}i", *values)


def _take_ints(reader: BodyReader) -> tuple[int, ...]:
    (count,) = reader.take(_INTS_LENGTH)
    return tuple(reader.take(struct.Struct(f"<{count}i")))


def unpack_tensor(body: bytes) -> TensorHeader:
    """Body of a TENSOR."""
    reader = BodyReader(body)
    frame, transform = _take_frame(reader), _take_ints(reader)
    height, width = reader.take(_SIZE)
    view = _take_ints(reader)
    reader.end()
    return TensorHeader(frame, transform, (height, width), view)


def unpack_mask(body: bytes) -> MaskHeader:
    """Body of a MASK."""
    reader = BodyReader(body)
    frame, transform = _take_frame(reader), _take_ints(reader)
    height, width = reader.take(_SIZE)
    (crc32,) = reader.take(_CRC)
    view = _take_ints(reader)
    reader.end()
    return MaskHeader(frame, transform, (height, width), crc32, view)


_NONE = -(1 << 63)


class Place(NamedTuple):
    """Where a picture lies."""

    ring: int
    slot: int
    generation: int


NOWHERE = Place((1 << 32) - 1, 0, 0)
"""Of a picture that is nowhere."""


@dataclass(frozen=True, slots=True)
class MaskShape:
    """What the packed bits of a mask mean: height and width, the transform and the view it was computed with."""

    size_hw: SizeHW
    transform: tuple[int, ...]
    view: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PresentedHeader:
    """What travels to the record process: the frame (its ring is the presented one) and what was said of it.

    ``mask_stamps``, ``hud`` and ``lost`` as in ``Presented``. ``raw`` is where the picture without marks lies, None if
    that is not needed. ``mask`` describes the payload, None without a mask. ``blank_view`` is the view outside of which
    a picture is blanked, () if all of it is.
    """

    frame: FrameHeader
    annotation: Annotation
    present_ns: int
    annotation_delay_ns: int | None
    synthetic: bool
    mask_stamps: tuple[Stamp, ...] = ()
    hud: Box | None = None
    lost: tuple[Lost, ...] = ()
    raw: Place | None = None
    mask: MaskShape | None = None
    blank_view: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Frame header, annotation, boxes, cause, stamps of the mask, HUD, lost frames, raw picture, mask, view."""
        note = self.annotation
        fixed = _ANNOTATION.pack(
            note.state,
            self.synthetic,
            self.present_ns,
            _NONE if self.annotation_delay_ns is None else self.annotation_delay_ns,
            _NONE if note.mask_seq is None else note.mask_seq,
            _NONE if note.mask_age_ns is None else note.mask_age_ns,
            note.area_px,
            _NONE if note.mask_crc32 is None else note.mask_crc32,
            len(note.boxes),
            0,
        )
        boxes = b"".join(_BOX.pack(*box) for box in note.boxes)
        return (
            self.frame.pack() + fixed + boxes + pack_text(note.cause) + self._pack_way() + self._pack_pixels()
        )

    def _pack_way(self) -> bytes:
        counts = _COUNTS.pack(len(self.mask_stamps), self.hud is not None, len(self.lost))
        hud = b"" if self.hud is None else _BOX.pack(*self.hud)
        lost = b"".join(_LOST.pack(*key, frames) + pack_text(cause) for key, frames, cause in self.lost)
        return counts + _pack_stamps(self.mask_stamps) + hud + lost

    def _pack_pixels(self) -> bytes:
        mask = self.mask or MaskShape((0, 0), ())
        raw, size = _PLACE.pack(*(self.raw or NOWHERE)), _SIZE.pack(*mask.size_hw)
        return raw + size + _pack_ints(mask.transform) + _pack_ints(mask.view) + _pack_ints(self.blank_view)


def unpack_presented(body: bytes) -> PresentedHeader:
    """Body of a PRESENTED."""
    reader = BodyReader(body)
    frame = _take_frame(reader)
    state, synthetic, present_ns, delay, mask_seq, mask_age, area, crc, box_count, _ = reader.take(
        _ANNOTATION
    )
    boxes = tuple(Box(*reader.take(_BOX)) for _ in range(box_count))
    cause = reader.text()
    way = _take_way(reader)
    pixels = _take_pixels(reader)
    reader.end()
    if state > max(MaskState):
        raise WireError(f"mask state: {state}; expected 0 to {max(MaskState)}")
    note = Annotation(
        MaskState(state), _optional(mask_seq), _optional(mask_age), boxes, area, _optional(crc), cause
    )
    return PresentedHeader(frame, note, present_ns, _optional(delay), bool(synthetic), *way, *pixels)


def _take_way(reader: BodyReader) -> tuple[tuple[Stamp, ...], Box | None, tuple[Lost, ...]]:
    stamp_count, has_hud, lost_count = reader.take(_COUNTS)
    stamps = _take_stamps(reader, stamp_count)
    hud = Box(*reader.take(_BOX)) if has_hud else None
    lost = []
    for _ in range(lost_count):
        source_id, loop, seq, frames = reader.take(_LOST)
        lost.append(Lost(FrameKey(source_id, loop, seq), frames, reader.text()))
    return stamps, hud, tuple(lost)


def _take_pixels(reader: BodyReader) -> tuple[Place | None, MaskShape | None, tuple[int, ...]]:
    raw = Place(*reader.take(_PLACE))
    height, width = reader.take(_SIZE)
    mask = MaskShape((height, width), _take_ints(reader), _take_ints(reader))
    blank_view = _take_ints(reader)
    return None if raw == NOWHERE else raw, mask if mask.transform else None, blank_view


def _optional(value: int) -> int | None:
    return None if value == _NONE else value
