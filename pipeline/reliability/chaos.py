"""Faults that a stage has in itself, on command: exceptions, slowness, leaks, garbage. For ``endostream faults``.

What a signal or a limit of the system can do is done from outside (``fault_run.py``); this is for what only the stage
itself can do. Each wrapper looks and behaves like what it wraps until the supervisor sends ``{"t": "chaos", "kind",
"for_s"}``; a restarted stage is sound. The wrappers are put in only where ``RunSpec.chaos`` is set: no other run
imports this file.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from endostream.configs.schema import OverlaySettings
from endostream.models.segmenter import (
    ImageRgb,
    Mask,
    Output,
    Progress,
    Segmentation,
    Segmenter,
    SegmenterInfo,
)

from ..frame import Annotation, Box, ImageBgr, Presented, SizeHW, SourcePicture
from ..host import StageHost
from ..infer import InferStage
from ..link import Received
from ..overlay import Answer, OverlayStage
from ..sink import Sink
from ..source import Source, SourceInfo
from ..stage import Output as StageOutput
from ..stage import Stage
from ..wire import FrameHeader, Kind, TensorHeader

SLOWER = 10
LEAK_BYTES = 32 << 20
"""Leaked with every frame: fast enough to reach a limit within a second or two."""
_GIBBERISH_BYTES = 100


class ChaosError(RuntimeError):
    """What a stage raises on command."""


class Switch:
    """What is to go wrong now. Written by the stage's main thread, read by whoever works."""

    def __init__(self, host: StageHost) -> None:
        self._clock = host.clock
        self._order = ("", 0)
        self._hoard: list[Mask] = []
        self.random = np.random.default_rng(0)
        host.on_chaos = self.take

    def take(self, message: dict[str, Any]) -> None:
        """Obey an order of the supervisor."""
        self._order = (message["kind"], self._clock.now_ns() + int(message["for_s"] * 1e9))

    @property
    def kind(self) -> str:
        """The fault of this moment, "" for none."""
        kind, until_ns = self._order
        return kind if kind and self._clock.now_ns() < until_ns else ""

    @contextlib.contextmanager
    def around(self) -> Iterator[str]:
        """Do to a piece of work what can be done to any: raise before it, leak, or make it ten times slower."""
        kind = self.kind
        if kind == "exception":
            raise ChaosError("on command")
        if kind == "leak":  # of ones: the pages of zeros would not be there
            self._hoard.append(np.ones(LEAK_BYTES, np.bool_))
        else:
            self._hoard.clear()  # a soak goes on with a process that survived
        begun_ns = self._clock.now_ns()
        yield kind
        if kind == "slow":
            time.sleep((SLOWER - 1) * (self._clock.now_ns() - begun_ns) / 1e9)

    def noise(self, count: int) -> bytes:
        """So many random bytes."""
        return self.random.bytes(count)


@dataclass(frozen=True, slots=True)
class _Gibberish:
    """A header that is none."""

    frame: FrameHeader
    data: bytes

    def pack(self) -> bytes:
        return self.data


class ChaosStage:
    """Wraps preprocess or infer."""

    def __init__(self, stage: Stage, switch: Switch) -> None:
        self.name, self.takes, self.sends_again = stage.name, stage.takes, stage.sends_again
        self._stage = stage
        self._switch = switch

    def open(self) -> None:
        """As the stage."""
        self._stage.open()

    def process(self, message: Received, header: Any) -> StageOutput:
        """As the stage, or not."""
        with self._switch.around() as kind:
            return self._garbled(kind, self._stage.process(message, header))

    def _garbled(self, kind: str, output: StageOutput) -> StageOutput:
        if kind == "random-bytes" and output.payload is not None:
            return StageOutput(output.kind, output.header, self._switch.noise(len(output.payload)))
        if kind == "bad-header" and output.kind in (Kind.TENSOR, Kind.MASK):
            header: TensorHeader = output.header
            gibberish = _Gibberish(header.frame, self._switch.noise(_GIBBERISH_BYTES))
            return StageOutput(output.kind, gibberish, output.payload)
        return output

    def close(self) -> None:
        """As the stage."""
        self._stage.close()


class ChaosInfer(InferStage):
    """Infer with a segmenter that can answer with garbage."""

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        switch: Switch,
        runtime: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(name, options, runtime, progress)
        self._switch = switch

    def open(self) -> None:
        """As infer."""
        super().open()
        self._segmenter = ChaosSegmenter(self.segmenter, self._switch)


class ChaosSegmenter:
    """Wraps a segmenter; its garbage is what broken networks and drivers give."""

    def __init__(self, segmenter: Segmenter, switch: Switch) -> None:
        self.info: SegmenterInfo = segmenter.info
        self._segmenter = segmenter
        self._switch = switch

    def warm_up(self) -> None:
        """As the segmenter."""
        self._segmenter.warm_up()

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        """As the segmenter, or a mask of another shape, probabilities that are none, or all ones."""
        size_hw = image_rgb.shape[:2]
        match self._switch.kind:
            case "wrong-shape":
                return Segmentation(np.ones((7, 5), np.bool_))
            case "not-a-number":
                return Segmentation(np.ones(size_hw, np.bool_), np.full(size_hw, np.nan, np.float32))
            case "all-ones":
                return Segmentation(np.ones(size_hw, np.bool_))
        return self._segmenter.segment(image_rgb, output)

    def close(self) -> None:
        """As the segmenter."""
        self._segmenter.close()


class ChaosOverlay(OverlayStage):
    """Overlay whose loop breaks (exception) or whose drawing does, half done (scribble)."""

    def __init__(self, settings: OverlaySettings, segmenter: str, switch: Switch) -> None:
        super().__init__(settings, segmenter)
        self._switch = switch

    def annotate(
        self, header: FrameHeader, answer: Answer | None, down: str = "", waits_for: str = ""
    ) -> Annotation:
        """As overlay; an exception here is in nobody's hands."""
        if self._switch.kind == "exception":
            raise ChaosError("on command")
        return super().annotate(header, answer, down, waits_for)

    def draw(self, image_bgr: ImageBgr, note: Annotation, answer: Answer | None, time_s: float) -> Box | None:
        """As overlay, or all over the picture and then an exception."""
        with self._switch.around() as kind:
            if kind == "scribble":
                image_bgr[::2] = 255
                raise ChaosError("on command")
            return super().draw(image_bgr, note, answer, time_s)


class ChaosSource:
    """Wraps a source that capture plays."""

    def __init__(self, source: Source, switch: Switch) -> None:
        self._source = source
        self._switch = switch
        self.info: SourceInfo = source.info

    @property
    def faults(self) -> dict[str, int]:
        """As the source."""
        return self._source.faults

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """As the source, or silence, pictures of noise, or of half the size."""
        for picture in self._source:
            self.info = self._source.info  # a live source may have come back as something else
            while self._switch.kind == "silence":
                time.sleep(0.01)
            if self._switch.kind == "wrong-size":
                half: SizeHW = (picture.size_hw[0] // 2, picture.size_hw[1] // 2)
                yield replace(picture, size_hw=half, fill=partial(self._fill_half, picture))
            else:
                yield replace(picture, fill=partial(self._fill, picture))

    def _fill(self, picture: SourcePicture, out_bgr: ImageBgr) -> None:
        with self._switch.around() as kind:
            picture.fill(out_bgr)
            if kind == "noise":
                out_bgr[...] = np.frombuffer(self._switch.noise(out_bgr.size), np.uint8).reshape(
                    out_bgr.shape
                )

    @staticmethod
    def _fill_half(picture: SourcePicture, out_bgr: ImageBgr) -> None:
        whole_bgr = np.empty((*picture.size_hw, 3), np.uint8)
        picture.fill(whole_bgr)
        out_bgr[...] = whole_bgr[: out_bgr.shape[0], : out_bgr.shape[1]]

    def close(self) -> None:
        """As the source."""
        self._source.close()


class ChaosSink:
    """Wraps a sink of the record process."""

    def __init__(self, sink: Sink, switch: Switch) -> None:
        self._sink = sink
        self._switch = switch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: Any) -> None:
        """Nothing more than the sink's own."""

    def write(self, presented: Presented) -> None:
        """As the sink, or not."""
        with self._switch.around():
            self._sink.write(presented)

    def close(self) -> None:
        """As the sink."""
        self._sink.close()
