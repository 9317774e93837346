"""The TensorRT segmenter on a stand-in for GPU and engine: what it answers, refuses, builds again and gives back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.models import trt_segmenter
from endostream.models.cuda_device import Cuda
from endostream.models.segmenter import ImageRgb, SegmenterLost
from endostream.models.trt_builder import BuildLog
from endostream.models.trt_gpu import GpuTraits
from endostream.models.trt_record import EngineFile, EngineRefused
from endostream.models.trt_request import EngineRequest
from endostream.models.trt_segmenter import RtxSegmenter, TensorrtSegmenter

from .cuda_stand_in import HEIGHT, WIDTH, StandIn, StandInEngine
from .segmenter_contract import SegmenterContract

GPU = GpuTraits("Stand-in 4090", "8.9", 128, 384, 75497472, 102400, 101376, 65536, 512, False)
SIZE = (HEIGHT, WIDTH)


class Workshop:
    """Builds and loads engines in memory; refuses as it is told."""

    def __init__(self, tmp_path: Path) -> None:
        self.device = StandIn()
        self.path = tmp_path / "tiny-fp16.engine"
        self.requests: list[tuple[EngineRequest, bool]] = []
        self.refuse_loads = 0
        self.wrong_masks = 0
        self.loaded: list[StandInEngine] = []
        self.closed_before_rebuild: bool | None = None

    def engine_for(
        self, request: EngineRequest, progress: Any = None, *, rebuild: bool = False
    ) -> EngineFile:
        self.requests.append((request, rebuild))
        if rebuild:
            self.closed_before_rebuild = not self.device.alive
        if progress is not None:
            progress("Compiling backend", 0.404)
        return EngineFile(self.path, {})

    def load_engine(self, file: EngineFile, flavour: Any, logger: BuildLog, gpu: GpuTraits) -> StandInEngine:
        assert gpu is GPU
        if self.refuse_loads:
            self.refuse_loads -= 1
            logger.errors.append("Magic tag does not match")
            raise EngineRefused(f"engine: {file.path}; not taken")
        wrong = self.wrong_masks > 0
        self.wrong_masks -= wrong
        engine = InvertingEngine(self.device) if wrong else StandInEngine(self.device)
        self.loaded.append(engine)
        return engine


class InvertingEngine(StandInEngine):
    """Marks what is dark: loads, runs, and is wrong."""

    def create_execution_context(self) -> Any:
        context = super().create_execution_context()
        right = context._compute

        def wrong() -> None:
            right()
            mask = self.cuda.bytes_at(context.addresses["mask"], HEIGHT * WIDTH, "the engine")
            mask[:] = 1 - mask

        context._compute = wrong
        return context


def red(seed: int = 0) -> ImageRgb:
    """Half of it bright in red, a corner of that very bright."""
    picture = np.random.default_rng(seed).integers(0, 100, (*SIZE, 3), np.uint8)
    picture[:, :3, 0] = 150
    picture[0, 0, 0] = 255
    return picture


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    flavour = SimpleNamespace(name="rtx", label="rtx 1.7.1.116", module=None)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"network")
    monkeypatch.setattr(trt_segmenter, "load_flavour", lambda name: flavour)
    monkeypatch.setattr(trt_segmenter, "read_gpu", lambda device: replace(GPU) if device else GPU)
    monkeypatch.setattr(
        trt_segmenter,
        "request_for",
        lambda preset, flavour, precision, model_, **others: EngineRequest(
            model, preset, flavour, precision, **others
        ),
    )
    monkeypatch.setattr(trt_segmenter, "engine_for", made.engine_for)
    monkeypatch.setattr(trt_segmenter, "load_engine", made.load_engine)
    monkeypatch.setattr(trt_segmenter, "make_logger", lambda module, log: log)
    monkeypatch.setattr(trt_segmenter, "Cuda", lambda device: Cuda(device, made.device))
    monkeypatch.setattr(trt_segmenter, "reference_picture", lambda hw: red())
    monkeypatch.setattr(trt_segmenter, "reference_mask", lambda model, sha, hw: red()[..., 0] > 127)
    yield made
    assert made.device.violations == []


Open = Callable[..., RtxSegmenter]


@pytest.fixture
def open_it(workshop: Workshop) -> Iterator[Open]:
    opened: list[RtxSegmenter] = []

    def make(**options: Any) -> RtxSegmenter:
        opened.append(RtxSegmenter("tiny", name="resunet-small", **options))
        return opened[-1]

    yield make
    for segmenter in opened:
        segmenter.close()
    assert workshop.device.alive == {}


class TestContract(SegmenterContract):
    """What every segmenter must hold, by way of the stand-in."""

    @pytest.fixture(autouse=True)
    def _open(self, workshop: Workshop) -> None:
        self.workshop = workshop

    def open_segmenter(self) -> RtxSegmenter:
        return RtxSegmenter("tiny", name="resunet-small", sure_prob=0.5)


def test_it_says_what_it_runs_on(open_it: Open) -> None:
    info = open_it().info
    assert info.runtime == "rtx 1.7.1.116 fp16 on Stand-in 4090, CUDA graph"
    assert info.input_hw == SIZE
    assert info.weights_sha256 is not None


def test_why_there_is_no_graph_is_said(workshop: Workshop, open_it: Open) -> None:
    assert open_it(cuda_graph=False).info.runtime.endswith(", no CUDA graph: not asked for")
    workshop.device.fail("cudaGraphInstantiate", 901)
    assert "no CUDA graph: cudaGraphInstantiate: cudaErrorStreamCaptureInv" in open_it().info.runtime


def test_the_options_reach_the_request(workshop: Workshop, open_it: Open) -> None:
    open_it(precision="fp32", tf32=True)
    ((request, rebuild),) = workshop.requests
    assert (request.preset, request.precision, request.tf32, request.gpu) == ("tiny", "fp32", True, GPU)
    assert not rebuild


def test_a_picture_without_a_mark_costs_one_copy_back(workshop: Workshop, open_it: Open) -> None:
    segmenter = open_it()
    workshop.device.forget()
    assert not segmenter.segment(np.zeros((*SIZE, 3), np.uint8)).mask.any()
    assert workshop.device.calls == ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]


def test_a_mark_is_judged_by_its_probabilities(open_it: Open) -> None:
    segmenter = open_it()
    picture = red()
    mask = segmenter.segment(picture).mask
    assert np.array_equal(mask, picture[..., 0] > 127)  # one pixel of it is sure
    picture[0, 0, 0] = 150
    assert not segmenter.segment(picture).mask.any()  # none is
    answer = segmenter.segment(picture, "prob")
    assert answer.prob is not None
    assert answer.prob.max() == 0.5


def test_progress_is_told_in_per_cent(open_it: Open) -> None:
    told: list[tuple[str, int]] = []
    open_it(progress=lambda what, percent: told.append((what, percent)))
    assert told == [("building engine", 40)]


@pytest.mark.parametrize("trouble", ["refuse_loads", "wrong_masks"])
def test_an_engine_that_is_refused_is_built_once_more(
    workshop: Workshop, open_it: Open, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    setattr(workshop, trouble, 1)
    segmenter = open_it()
    assert [rebuild for _, rebuild in workshop.requests] == [False, True]
    assert workshop.closed_before_rebuild
    assert np.array_equal(segmenter.segment(red()).mask, red()[..., 0] > 127)
    assert "it is built again" in caplog.text


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("refuse_loads", r"engine: .*tiny-fp16\.engine; not taken; it says: Magic tag does not match"),
        ("wrong_masks", r"engine: tiny-fp16\.engine: its mask .* expected 0\.99 or more at fp16"),
    ],
)
def test_an_engine_that_is_refused_again_is_not_used(workshop: Workshop, trouble: str, says: str) -> None:
    setattr(workshop, trouble, 9)
    with pytest.raises(ModelError, match=says) as caught:
        RtxSegmenter("tiny")
    assert caught.value.exit_code == 4
    assert [rebuild for _, rebuild in workshop.requests] == [False, True]
    assert workshop.device.alive == {}


def test_an_error_of_the_gpu_ends_it_with_its_cause_and_gives_everything_back(
    workshop: Workshop, open_it: Open
) -> None:
    segmenter = open_it()
    workshop.device.fail("cudaEventSynchronize", 700)
    cause = (
        r"resunet-small: the GPU failed: cudaEventSynchronize: cudaErrorIllegalAddress \(an illegal memory"
    )
    with pytest.raises(SegmenterLost, match=cause):
        segmenter.segment(red())
    assert workshop.device.alive == {}
    with pytest.raises(SegmenterLost, match=cause):
        segmenter.segment(red())


def test_an_error_of_the_gpu_at_the_start_is_the_machines(workshop: Workshop) -> None:
    workshop.device.fail("cudaMalloc", 2)
    with pytest.raises(
        ModelError, match=r"GPU 0 \(Stand-in 4090\): cudaMalloc: cudaErrorMemoryAllocation"
    ) as caught:
        RtxSegmenter("tiny")
    assert caught.value.exit_code == 4
    assert workshop.device.alive == {}


def test_a_picture_of_another_size_costs_the_gpu_nothing(workshop: Workshop, open_it: Open) -> None:
    segmenter = open_it()
    workshop.device.forget()
    with pytest.raises(ValueError, match=r"expected uint8 \(4, 6, 3\)"):
        segmenter.segment(np.zeros((6, 4, 3), np.uint8))
    assert workshop.device.calls == []


def test_another_input_size_than_wanted_is_refused(workshop: Workshop) -> None:
    with pytest.raises(ModelError, match=r"input_hw: \(320, 320\); expected \(4, 6\)"):
        RtxSegmenter("tiny", input_hw=(320, 320))
    assert workshop.device.alive == {}


def test_keep_warm_is_off_unless_asked_for_and_still_while_a_frame_is_under_way(
    open_it: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_it()._keep_warm is None
    segmenter = open_it(keep_warm_ms=1000.0)
    warm = segmenter._keep_warm
    assert warm is not None
    seen: list[bool] = []
    runner = segmenter._runner
    assert runner is not None
    run = runner.run

    def watched(image: ImageRgb) -> Any:
        seen.append(warm.busy)
        return run(image)

    monkeypatch.setattr(runner, "run", watched)
    segmenter.segment(red())
    assert (seen, warm.busy) == ([True], False)
    segmenter.close()
    assert not warm._thread.is_alive()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep_warm_ms": -1.0}, r"keep_warm_ms: -1\.0; expected 0 \(off\) to 1000"),
        ({"sure_prob": 1.0}, r"sure_prob: 1\.0"),
    ],
)
def test_a_value_outside_its_range_is_a_mistake(
    workshop: Workshop, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        RtxSegmenter("tiny", **options)
    assert workshop.device.calls == []


def test_each_flavour_asks_for_its_own_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        raise ModelError("not installed")

    monkeypatch.setattr(trt_segmenter, "load_flavour", load)
    for make in (TensorrtSegmenter, RtxSegmenter):
        with pytest.raises(ModelError):
            make()
    assert asked == ["tensorrt", "rtx"]
