"""The preprocess stage: a captured picture in, what the network eats out.

Crops the field of view, fits it into the network's input by the one transform, and turns BGR to RGB, uint8. With the
tensor goes the view's mask at that size, so that nothing outside the endoscope's picture can count as a finding.
It reads the picture straight from the ring and checks afterwards that it was whole. It knows no socket.
"""

from collections.abc import Callable

import cv2
import numpy as np

from endostream.models.field_of_view import FieldOfView, FieldOfViewTracker
from endostream.models.segmenter import Mask
from endostream.models.transform import Transform

from .frame import SizeHW
from .link import Received
from .ring import FrameRing
from .stage import Drop, Output
from .wire import FrameHeader, Kind, TensorHeader


class PreprocessStage:
    """Makes tensors of ``input_hw`` (height, width) from pictures in rings.

    Args:
        input_hw: what the network eats.
        rings: gives the ring a descriptor names, or None.
        find_view: whether to look for the field of view; otherwise the whole picture is used.
        interval_frames: the view is looked for once in so many frames.
    """

    name = "preprocess"
    takes = Kind.FRAME
    sends_again = False

    def __init__(
        self,
        input_hw: SizeHW,
        rings: Callable[[int], FrameRing | None],
        find_view: bool = True,
        interval_frames: int = 25,
    ) -> None:
        self._input_hw = input_hw
        self._rings = rings
        self._find_view = find_view
        self._interval_frames = interval_frames
        self._tracker: FieldOfViewTracker | None = None
        self._source: tuple[int, SizeHW] | None = None
        self._view: FieldOfView | None = None
        self._transform = Transform.of_picture(input_hw, input_hw)
        self._view_mask: Mask = np.ones(input_hw, np.bool_)

    def open(self) -> None:
        """Keep OpenCV to one thread: the pictures are small, and the cores belong to the stages."""
        cv2.setNumThreads(1)

    def process(self, message: Received, header: FrameHeader) -> Output:
        """Make the tensor of one frame; raises Drop if its picture is not there any more."""
        ring = self._rings(header.ring)
        if ring is None or not ring.is_current(header.slot, header.generation):
            raise Drop("overwritten")
        if ring.shape.size_hw != header.size_hw:
            raise Drop("invalid")
        image_bgr = ring.view(header.slot)
        transform, view_mask = self._look(header, ring)
        tensor = cv2.cvtColor(transform.forward(image_bgr), cv2.COLOR_BGR2RGB)
        if not ring.is_current(header.slot, header.generation):
            raise Drop("overwritten")
        payload = tensor.tobytes() + np.packbits(view_mask).tobytes()
        tensor_header = TensorHeader(header, transform.to_ints(), self._input_hw, self._known_view())
        return Output(Kind.TENSOR, tensor_header, payload)

    def close(self) -> None:
        """Nothing to give back."""

    def _known_view(self) -> tuple[int, ...]:
        known = self._view is not None and self._tracker is not None and self._tracker.known
        return self._view.to_ints() if known and self._view is not None else ()

    def _look(self, header: FrameHeader, ring: FrameRing) -> tuple[Transform, Mask]:
        """The transform for this frame and the view's mask at the input."""
        source = (header.key.source_id, header.size_hw)
        if source != self._source:
            self._source, self._tracker = source, FieldOfViewTracker(self._interval_frames)
        if self._find_view and self._tracker is not None:
            view = self._tracker.update(ring.view(header.slot))
        else:
            view = FieldOfView.whole(header.size_hw)
        if self._view is None or (view is not self._view and view != self._view):
            self._view = view
            self._transform = Transform(header.size_hw, view.rect, self._input_hw)
            self._view_mask = view.mask_at_input(self._transform)
        return self._transform, self._view_mask
