"""The TensorRT segmenter from ONNX file to mask, all of it real but the GPU: TensorRT-RTX builds the engine for an RTX
4090 that is not there, and on the stand-in for that GPU, ONNX Runtime computes the very graph that TensorRT was given.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ModelError
from endostream.models import trt_segmenter
from endostream.models.cuda_device import Cuda
from endostream.models.runtimes import open_preset
from endostream.models.segmenter import Segmenter
from endostream.models.self_test import reference_picture
from endostream.models.trt_engine import graph_for
from endostream.models.trt_gpu import GpuTraits
from endostream.models.trt_record import EngineFile, EngineRefused
from endostream.models.trt_segmenter import RtxSegmenter
from endostream.models.weights_files import preset_folder

from .cuda_stand_in import StandIn, StandInContext, StandInEngine
from .segmenter_contract import scene

GPU = GpuTraits("NVIDIA GeForce RTX 4090", "8.9", 128, 384, 75497472, 102400, 101376, 65536, 512, False)
HEIGHT = WIDTH = 320
FLIPPED = {"fp32": 3, "fp16": 100, "int8": 1500}
"""Most pixels of 102,400 whose mask may differ from float32 by ONNX Runtime on the file itself."""


class NotTaken(Exception):
    """TensorRT refused an engine that we found nothing wrong with."""


class GraphEngine(StandInEngine):
    """The graph of an engine on ONNX Runtime, its tensors in the stand-in's memory."""

    shapes = {"image": (1, HEIGHT, WIDTH, 3), "mask": (HEIGHT, WIDTH), "prob": (HEIGHT, WIDTH)}  # noqa: RUF012

    def __init__(self, cuda: StandIn, graph: bytes) -> None:
        import onnxruntime

        super().__init__(cuda)
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def create_execution_context(self) -> "GraphContext":
        return GraphContext(self.cuda, self.session)


class GraphContext(StandInContext):
    """Runs the session when the stream gets that far."""

    def __init__(self, cuda: StandIn, session: Any) -> None:
        super().__init__(cuda, None)
        self._session = session

    def _compute(self) -> None:
        pixels = HEIGHT * WIDTH
        memory = self._cuda.bytes_at(self.addresses["image"], 3 * pixels, "the engine")
        mask, prob = self._session.run(["mask", "prob"], {"image": memory.reshape(1, HEIGHT, WIDTH, 3)})
        self._cuda.bytes_at(self.addresses["mask"], pixels, "the engine")[:] = mask.ravel()
        self._cuda.bytes_at(self.addresses["prob"], 4 * pixels, "the engine").view(np.float32)[:] = (
            prob.ravel()
        )


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    real_load = trt_segmenter.load_engine

    def loaded(*arguments: Any) -> None:
        try:
            real_load(*arguments)
        except EngineRefused as refused:
            raise (NotTaken if "does not take it" in str(refused) else AssertionError)(refused) from refused

    def load(file: EngineFile, flavour: Any, logger: Any, gpu: GpuTraits) -> GraphEngine:
        with suppress(NotTaken):  # everything is in order but that the GPU is not there
            loaded(file, flavour, logger, gpu)
        folder = preset_folder("resunet-small")
        return GraphEngine(stand_in, graph_for(folder / file.record["onnx"], file.record["precision"]))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(trt_segmenter, "read_gpu", lambda device: GPU)
    monkeypatch.setattr(trt_segmenter, "Cuda", lambda number: Cuda(number, stand_in))
    monkeypatch.setattr(trt_segmenter, "load_engine", load)
    yield stand_in
    assert stand_in.alive == {}
    assert stand_in.violations == []


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[Segmenter]:
    segmenter = open_preset("resunet-small", "onnxruntime")
    yield segmenter
    segmenter.close()


Told = list[tuple[str, int]]


def watched() -> tuple[Told, Callable[[str, int], None]]:
    told: Told = []
    return told, lambda what, percent: told.append((what, percent))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_from_onnx_file_to_mask(device: StandIn, on_cpu: Segmenter, tmp_path: Path, precision: str) -> None:
    told, progress = watched()
    segmenter = RtxSegmenter(precision=precision, progress=progress)
    assert {what for what, _ in told} == {"building engine"}
    percents = [percent for _, percent in told]
    assert percents == sorted(percents)
    assert 50 <= percents[-1] <= 100
    assert segmenter.info.runtime.endswith(f" {precision} on NVIDIA GeForce RTX 4090, CUDA graph")
    for shown in (reference_picture((HEIGHT, WIDTH)), scene((HEIGHT, WIDTH))):
        ours, theirs = segmenter.segment(shown, "prob"), on_cpu.segment(shown, "prob")
        assert (ours.mask ^ theirs.mask).sum() <= FLIPPED[precision]
        assert ours.prob is not None
        assert np.array_equal(ours.mask, ours.prob > 0.5)
        assert np.array_equal(segmenter.segment(shown).mask, ours.mask)
    segmenter.close()
    (engine,) = tmp_path.rglob("*.engine")
    assert f"{precision}-rtx" in engine.name


def test_the_second_opening_builds_nothing_and_a_damaged_engine_is_built_again(
    device: StandIn, tmp_path: Path
) -> None:
    RtxSegmenter().close()
    told, progress = watched()
    RtxSegmenter(progress=progress).close()
    assert told == []
    (engine,) = tmp_path.rglob("*.engine")
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    RtxSegmenter(progress=progress).close()
    assert told


def test_an_engine_of_other_weights_does_not_pass_the_self_test(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wrong tactic or a mixed-up file would: everything about the engine is right but what it computes."""
    right = GraphContext._compute

    def wrong(self: GraphContext) -> None:
        right(self)
        mask = self._cuda.bytes_at(self.addresses["mask"], HEIGHT * WIDTH, "the engine")
        mask.reshape(HEIGHT, WIDTH)[:] = np.roll(mask.reshape(HEIGHT, WIDTH), 8, axis=1)

    monkeypatch.setattr(GraphContext, "_compute", wrong)
    with pytest.raises(
        ModelError, match=r"its mask of the stored picture has Dice 0\.8\d+ .* at fp16"
    ) as caught:
        RtxSegmenter()
    assert caught.value.exit_code == 4
