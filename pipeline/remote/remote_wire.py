"""What a tower and an infer host on another machine say to each other: the bodies behind the head of ``wire.py``.

In the head, the writer's epoch is the tower's (new with each connection), the reader's epoch the host's (new with
each start), and the number is the tower's, repeated in the answer: what belongs to another connection or another
start fits nowhere. By kind::

    SYN      tower → host   what is asked for (Terms)
    HELLO    host → tower   what is there (Terms): from now on tensors may be sent
    REFUSED  host → tower   why not, in words
    TENSOR   tower → host   size and CRC-32; payload: tensor and the view's packed mask
    MASK     host → tower   size and CRC-32; payload: the packed mask
    FAIL     host → tower   why there is no mask, in words
    PING     host → tower   nothing: shows the host whether the tower is still there

The frame's header never leaves the tower, which keeps it and joins it to the answer. The sums guard where no keys
do, on the loopback. Separate from ``wire.py``, whose bodies travel between stages of one machine.
"""

import struct
import zlib
from dataclasses import dataclass

from ..frame import SizeHW
from ..wire import BodyReader, WireError, pack_text

_SIZE = struct.Struct("<II")
_SUM = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Terms:
    """What one side asks for or has.

    Attributes:
        segmenter: its registry name.
        input_hw: height and width of the tensors.
        software: endostream's version.
        runtime: what computes it; "" from a tower.
        weights_sha256: of the model file, "" where there is none and from a tower.
    """

    segmenter: str
    input_hw: SizeHW
    software: str
    runtime: str = ""
    weights_sha256: str = ""

    def pack(self) -> bytes:
        """Size and four texts."""
        texts = (self.segmenter, self.software, self.runtime, self.weights_sha256)
        return _SIZE.pack(*self.input_hw) + b"".join(pack_text(text) for text in texts)

    def refusal(self, asked: "Terms") -> str:
        """Why a host of these terms refuses a tower that asks for ``asked``, "" if it does not."""
        if asked.segmenter != self.segmenter:
            return (
                f"segmenter: {asked.segmenter} asked for, {self.segmenter} there; expected the same. "
                f"Try: --segmenter {self.segmenter} on the tower"
            )
        if asked.input_hw != self.input_hw:
            wanted, there = ("{} × {}".format(*size) for size in (asked.input_hw, self.input_hw))
            return f"input size: {wanted} asked for, {there} there; expected the same infer.options.input_hw"
        return ""


def unpack_terms(body: bytes) -> Terms:
    """Body of a SYN or a HELLO; raises WireError."""
    reader = BodyReader(body)
    height, width = reader.take(_SIZE)
    segmenter, software, runtime, weights_sha256 = (reader.text() for _ in range(4))
    reader.end()
    return Terms(segmenter, (height, width), software, runtime, weights_sha256)


def unpack_words(body: bytes) -> str:
    """Body of a REFUSED or a FAIL, one line of printable text; raises WireError."""
    reader = BodyReader(body)
    words = reader.text()
    reader.end()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())


def pack_sum(size_hw: SizeHW, payload: bytes) -> bytes:
    """Body of a TENSOR or a MASK."""
    return _SUM.pack(*size_hw, zlib.crc32(payload))


def check_sum(body: bytes, payload: bytes | None, size_hw: SizeHW, size_bytes: int) -> bytes:
    """The payload of a TENSOR or a MASK; raises WireError unless it is whole and of the size agreed upon."""
    reader = BodyReader(body)
    height, width, crc32 = reader.take(_SUM)
    reader.end()
    if (height, width) != size_hw or payload is None or len(payload) != size_bytes:
        raise WireError(
            f"payload: {height} × {width}; expected {size_hw[0]} × {size_hw[1]}, {size_bytes} bytes"
        )
    if zlib.crc32(payload) != crc32:
        raise WireError("payload: damaged on its way; its sum does not fit")
    return payload
