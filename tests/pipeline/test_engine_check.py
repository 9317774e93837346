"""The last step of the numeric gate: an engine that runs, on a stand-in for a GPU, is held against the network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from endostream.models import cuda_device
from endostream.models.trt_engine import EngineFile, EngineRequest, engine_for, graph_for
from endostream.models.trt_flavour import load_flavour
from endostream.models.trt_gpu import GpuTraits
from endostream.pipeline import engine_check

from ..models.cuda_stand_in import StandIn, StandInContext, StandInEngine
from ..models.tiny_onnx import HW, tiny_network, write_tiny
from .commands.test_cli_engine import write_pictures

GPU = GpuTraits("NVIDIA GeForce RTX 4090", "8.9", 128, 384, 75497472, 102400, 101376, 65536, 512, False)
HEIGHT, WIDTH = HW


class GraphEngine(StandInEngine):
    """A graph on ONNX Runtime, its tensors in the stand-in's memory."""

    shapes = {"image": (1, HEIGHT, WIDTH, 3), "mask": HW, "prob": HW}  # noqa: RUF012

    def __init__(self, cuda: StandIn, graph: bytes) -> None:
        super().__init__(cuda)
        self._graph = graph

    def create_execution_context(self) -> "GraphContext":
        return GraphContext(self.cuda, engine_check.OrtNetwork(self._graph))


class GraphContext(StandInContext):
    """Runs the graph when the stream gets that far."""

    def __init__(self, cuda: StandIn, network: engine_check.OrtNetwork) -> None:
        super().__init__(cuda, None)
        self._network = network

    def _compute(self) -> None:
        memory = self._cuda.bytes_at(self.addresses["image"], 3 * HEIGHT * WIDTH, "the engine")
        mask = self._network(memory.reshape(HEIGHT, WIDTH, 3))
        self._cuda.bytes_at(self.addresses["mask"], HEIGHT * WIDTH, "the engine")[:] = mask.ravel()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made, real = StandIn(), cuda_device.Cuda
    monkeypatch.setattr(cuda_device, "no_gpu_reason", lambda: "")
    monkeypatch.setattr(cuda_device, "Cuda", lambda number: real(number, made))
    yield made
    assert made.alive == {}
    assert made.violations == []


@pytest.fixture
def request_sm89(tmp_path: Path) -> EngineRequest:
    model = write_tiny(tmp_path / "tiny.onnx")
    return EngineRequest(model, "tiny", load_flavour("rtx"), "fp16", ("sm89",), folder=tmp_path, gpu=GPU)


def run_as(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn, graph: bytes) -> None:
    """Let the engine that is loaded compute ``graph``."""

    def load(file: EngineFile, flavour: Any, logger: Any = None, gpu: Any = None) -> GraphEngine:
        assert gpu == GPU
        return GraphEngine(stand_in, graph)

    monkeypatch.setattr(engine_check, "load_engine", load)


def engine_step(found: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = found["steps"][-1]
    return step


def test_an_engine_that_computes_its_graph_passes(
    monkeypatch: pytest.MonkeyPatch, stand_in: StandIn, request_sm89: EngineRequest, tmp_path: Path
) -> None:
    run_as(monkeypatch, stand_in, graph_for(request_sm89.onnx, "fp32"))
    data = write_pictures(tmp_path / "data", 3)
    found = engine_check.check(request_sm89, engine_for(request_sm89), data)
    step = engine_step(found)
    assert (step["name"], step["passed"], step["flipped_pixels"]) == ("onnx to rtx engine", True, 0)
    assert step["pixels"] == 3 * HEIGHT * WIDTH
    assert found["engine_was_run"] is True
    assert "not run" not in "\n".join(engine_check.check_lines(found)[-1:])


def test_an_engine_that_computes_something_else_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, stand_in: StandIn, request_sm89: EngineRequest, tmp_path: Path
) -> None:
    other = tiny_network()
    for constant in other.graph.initializer:
        if constant.name == "out_bias":
            bias = numpy_helper.to_array(constant) + np.float32(1)
            constant.CopyFrom(numpy_helper.from_array(bias, constant.name))
    onnx.save(other, tmp_path / "other.onnx")
    run_as(monkeypatch, stand_in, graph_for(tmp_path / "other.onnx", "fp32"))
    data = write_pictures(tmp_path / "data", 2)
    found = engine_check.check(request_sm89, engine_for(request_sm89), data)
    step = engine_step(found)
    assert (found["passed"], step["passed"]) == (False, False)
    assert step["flipped_share"] > step["max_flipped_share"]
    assert step["worst_picture"] in ("p0", "p1")


def test_an_engine_for_other_gpus_is_not_run_and_the_gpu_is_named(
    stand_in: StandIn, request_sm89: EngineRequest, tmp_path: Path
) -> None:
    request = replace(request_sm89, targets=("sm86", "sm120"))
    found = engine_check.check(request, engine_for(request), write_pictures(tmp_path / "data", 1))
    assert (
        engine_step(found)["not_run"]
        == "built for sm86, sm120; the GPU here is sm89 (NVIDIA GeForce RTX 4090)"
    )
    assert found["engine_was_run"] is False
