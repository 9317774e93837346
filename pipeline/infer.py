"""The infer stage: a tensor in, a mask out, through whatever segmenter was chosen, cut to the field of view.

It checks what the segmenter answers before anyone draws it: a mask of another shape or type, or probabilities that
are no numbers, are failures with a cause, never "nothing found". It knows no socket and no picture of full size.
"""

import zlib
from typing import Any

import numpy as np

from endostream.models.segmenter import (
    Mask,
    Progress,
    Segmentation,
    Segmenter,
    SegmenterLost,
    load_segmenter,
)

from .frame import SizeHW
from .link import Received
from .stage import Drop, Output, StageBroken
from .wire import Kind, MaskHeader, TensorHeader


class BadSegmentation(ValueError):
    """A segmenter answered with something that is no mask of its input."""


class InferStage:
    """Opens the segmenter ``name`` and answers tensors (H × W × 3, RGB, uint8) with packed masks.

    Args:
        name: registry name.
        options: keyword arguments of the segmenter's constructor.
        runtime: what is to compute it, where it has the choice.
        progress: told how far an opening that takes long is, e.g. the building of an engine.
    """

    name = "infer"
    takes = Kind.TENSOR
    sends_again = True

    def __init__(
        self, name: str, options: dict[str, Any], runtime: str = "auto", progress: Progress | None = None
    ) -> None:
        self._segmenter_name = name
        self._options = options
        self._runtime = runtime
        self._progress = progress
        self._segmenter: Segmenter | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter; only after ``open``."""
        if self._segmenter is None:
            raise RuntimeError("infer: not open")
        return self._segmenter

    def open(self) -> None:
        """Load the segmenter and pay its first-call costs."""
        self._segmenter = load_segmenter(
            self._segmenter_name, self._options, runtime=self._runtime, progress=self._progress
        )
        self._segmenter.warm_up()

    def process(self, message: Received, header: TensorHeader) -> Output:
        """Segment one tensor; its payload is H × W × 3 bytes and the view's mask, packed bits.

        Raises:
            StageBroken: the segmenter says that it cannot go on: a GPU's errors stay with a process for good.
        """
        if message.payload is None or header.size_hw != self.segmenter.info.input_hw:
            raise Drop("invalid")
        if len(message.payload) != payload_bytes(header.size_hw):
            raise Drop("invalid")
        try:
            packed = packed_mask(self.segmenter, message.payload, header.size_hw)
        except SegmenterLost as error:
            raise StageBroken(f"infer: {error}") from error
        return mask_output(header, packed)

    def close(self) -> None:
        """Close the segmenter."""
        if self._segmenter is not None:
            self._segmenter.close()


def payload_bytes(size_hw: SizeHW) -> int:
    """Bytes of a tensor of ``size_hw`` and of the view's mask behind it."""
    return size_hw[0] * size_hw[1] * 3 + mask_bytes(size_hw)


def mask_bytes(size_hw: SizeHW) -> int:
    """Bytes of a packed mask."""
    return -(-size_hw[0] * size_hw[1] // 8)


def packed_mask(segmenter: Segmenter, payload: bytes, size_hw: SizeHW) -> bytes:
    """Segment the tensor in ``payload`` (``payload_bytes`` long), cut to the view behind it; packed bits."""
    height, width = size_hw
    tensor_bytes = height * width * 3
    image_rgb = np.frombuffer(payload, np.uint8, tensor_bytes).reshape(height, width, 3)
    mask = check_segmentation(segmenter.segment(image_rgb), size_hw)
    return (np.packbits(mask) & np.frombuffer(payload, np.uint8, offset=tensor_bytes)).tobytes()


def mask_output(header: TensorHeader, packed: bytes) -> Output:
    """The answer to a tensor: its packed mask under its own header."""
    mask_header = MaskHeader(header.frame, header.transform, header.size_hw, zlib.crc32(packed), header.view)
    return Output(Kind.MASK, mask_header, packed)


def check_segmentation(segmentation: Segmentation, size_hw: tuple[int, int]) -> Mask:
    """The mask of ``segmentation`` if it is a bool mask of ``size_hw``; raises BadSegmentation otherwise."""
    mask, prob = segmentation.mask, segmentation.prob
    if mask.shape != size_hw or mask.dtype != np.bool_:
        raise BadSegmentation(f"mask: {mask.dtype} {mask.shape}; expected bool {size_hw}")
    if prob is not None and not np.isfinite(prob).all():
        raise BadSegmentation("prob: not finite; expected [0, 1]")
    return mask
