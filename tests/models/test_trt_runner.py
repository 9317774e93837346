"""An engine on a stand-in for the GPU: order of copies, sizes, lifetimes, the graph and the way without it.

The stand-in runs what is enqueued only when it is waited for, and notes every use of memory that is gone.
"""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.models.cuda_device import Cuda, CudaFailed
from endostream.models.trt_runner import EngineMisfit, TrtRunner

from .cuda_stand_in import HEIGHT, WIDTH, StandIn, StandInEngine

SIZE = (HEIGHT, WIDTH)
PLAIN = ["upload", "execute_async_v3", "download", "cudaEventRecord", "cudaEventSynchronize"]
GRAPH = ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]
FETCH = ["download", "cudaEventRecord", "cudaEventSynchronize"]


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def opened(device: StandIn, engine: Any = None, **options: Any) -> TrtRunner:
    return TrtRunner(Cuda(0, device), engine or StandInEngine(device), SIZE, **options)


@pytest.mark.parametrize("use_graph", [True, False])
def test_the_answer_is_that_of_the_picture_shown(use_graph: bool) -> None:
    device = StandIn()
    runner = opened(device, use_graph=use_graph)
    for seed in range(3):
        shown = image(seed)
        assert np.array_equal(runner.run(shown) != 0, shown[..., 0] > 127)
        assert np.array_equal(runner.prob(), shown[..., 0] / np.float32(255))
    runner.close()
    assert device.violations == []


def test_copy_in_comes_before_the_engine_before_copy_out_before_waiting() -> None:
    device = StandIn()
    runner = opened(device, use_graph=False)
    device.forget()
    runner.run(image())
    assert device.calls == PLAIN


def test_a_graph_takes_their_place_and_holds_the_same() -> None:
    device = StandIn()
    runner = opened(device)
    begin, end = device.calls.index("cudaStreamBeginCapture"), device.calls.index("cudaStreamEndCapture")
    assert device.calls[begin + 1 : end] == PLAIN[:3]
    assert device.calls[:begin].count("execute_async_v3") == 3  # warm before it is recorded
    assert device.calls[end:][:4] == [
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphUpload",
    ]
    device.forget()
    runner.run(image())
    assert device.calls == GRAPH
    assert (runner.is_graph, runner.graph_problem) == (True, "")


def test_live_only_the_mask_comes_back_and_the_probabilities_if_asked_for() -> None:
    device = StandIn()
    runner = opened(device)
    device.forget()
    runner.run(image())
    runner.prob()
    assert device.calls == GRAPH + FETCH


def test_a_frame_allocates_and_creates_nothing() -> None:
    device = StandIn()
    runner = opened(device)
    alive = set(device.alive)
    device.forget()
    for seed in range(20):
        runner.run(image(seed))
        runner.prob()
    assert device.allocations == 0
    assert set(device.alive) == alive


def test_buffers_have_the_sizes_of_the_engines_tensors() -> None:
    device = StandIn()
    engine = StandInEngine(device)
    runner = opened(device, engine)
    pixels = HEIGHT * WIDTH
    addresses = engine.contexts[0].addresses
    assert {name: device.alive[address].size for name, address in addresses.items()} == {
        "image": 3 * pixels,
        "mask": pixels,
        "prob": 4 * pixels,
    }
    assert all(device.kinds[address] == "device" for address in addresses.values())
    assert list(device.kinds.values()).count("pinned") == 3
    runner.close()


def test_everything_is_given_back_once_last_first() -> None:
    device = StandIn()
    runner = opened(device)
    runner.close()
    runner.close()
    assert device.alive == {}
    assert device.violations == []
    assert device.freed == ["graph", "graph exec", *["device", "pinned"] * 3, "event", "stream"]
    last_wait = len(device.calls) - 1 - device.calls[::-1].index("cudaStreamSynchronize")
    assert not {"cudaFree", "cudaFreeHost", "cudaGraphExecDestroy"} & set(device.calls[:last_wait])


def test_context_and_engine_go_before_the_memory_they_use() -> None:
    device = StandIn()
    engine = StandInEngine(device)
    runner = opened(device, engine)
    gone: list[int] = []
    weakref.finalize(engine.contexts.pop(), lambda: gone.append(len(device.freed)))
    runner.close()
    gc.collect()
    assert gone == [2]  # after graph and graph exec, before any memory


ONCE = ("cudaDeviceGetStreamPriorityRange", "cudaStreamCreateWithPriority", "cudaEventCreateWithFlags")
THRICE = ("cudaHostAlloc", "cudaMalloc", "upload", "download", "cudaEventRecord", "cudaEventSynchronize")
NAMES = {2: "cudaErrorMemoryAllocation", 700: "cudaErrorIllegalAddress"}


@pytest.mark.parametrize(
    ("name", "at"), [*((name, 1) for name in ONCE), *((name, at) for name in THRICE for at in (1, 2, 3))]
)
@pytest.mark.parametrize("error", [2, 700])
def test_an_error_half_way_gives_back_what_there_was(name: str, at: int, error: int) -> None:
    device = StandIn()
    device.fail(name, error, at)
    with pytest.raises(CudaFailed, match=NAMES[error]):
        opened(device)
    assert device.alive == {}
    assert device.violations == []


@pytest.mark.parametrize(
    "name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphUpload"]
)
def test_where_no_graph_can_be_recorded_the_engine_runs_call_by_call(name: str) -> None:
    device = StandIn()
    device.fail(name, 901)
    runner = opened(device)
    assert runner.graph_problem == f"{name}: cudaErrorStreamCaptureInvalidated (capture invalidated)"
    device.forget()
    shown = image(4)
    assert np.array_equal(runner.run(shown) != 0, shown[..., 0] > 127)
    assert device.calls == PLAIN
    runner.close()
    assert device.alive == {}
    assert device.violations == []


def test_a_capture_that_fails_inside_leaves_the_stream_usable() -> None:
    device = StandIn()
    device.fail("upload", 901, 4)  # the first three warm up
    runner = opened(device)
    assert not runner.is_graph
    shown = image(5)
    assert np.array_equal(runner.run(shown) != 0, shown[..., 0] > 127)
    assert device.violations == []


def test_a_sticky_error_while_recording_is_no_reason_to_go_on() -> None:
    device = StandIn()
    device.fail("cudaGraphInstantiate", 700)
    with pytest.raises(CudaFailed, match="cudaErrorIllegalAddress"):
        opened(device)
    assert device.alive == {}


def test_an_engine_that_says_it_cannot_be_captured_is_not() -> None:
    device = StandIn()
    runner = opened(device, StandInEngine(device, capturable=False))
    assert runner.graph_problem == "TensorRT says that this engine cannot be captured"
    assert device.done("cudaStreamBeginCapture") == 0
    assert opened(device, StandInEngine(device, capturable=True)).is_graph


def test_an_engine_that_cannot_be_enqueued_is_an_error_with_what_tensorrt_said() -> None:
    device = StandIn()
    with pytest.raises(CudaFailed, match="could not enqueue; it says: no kernel image"):
        opened(device, StandInEngine(device, broken=True), said=["first", "no kernel\nimage"])
    assert device.alive == {}


class OtherNames(StandInEngine):
    shapes = {"input": (1, HEIGHT, WIDTH, 3), "logits": (HEIGHT, WIDTH)}  # noqa: RUF012


class OtherSizes(StandInEngine):
    sizes = {"image": 1, "mask": 4, "prob": 4}  # noqa: RUF012


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (OtherNames, r"tensors \['input', 'logits'\]; expected image, mask and prob"),
        (OtherSizes, r"mask is \(4, 6\), 96 bytes; expected 24 bytes"),
    ],
)
def test_an_engine_of_another_network_is_refused(engine: type[StandInEngine], says: str) -> None:
    device = StandIn()
    with pytest.raises(EngineMisfit, match=says):
        opened(device, engine(device))
    assert device.alive == {}


@pytest.mark.parametrize(("spin", "flags"), [(False, 3), (True, 2)])
def test_waiting_sleeps_unless_it_is_to_spin(spin: bool, flags: int) -> None:
    device = StandIn()
    opened(device, spin=spin)
    assert device.event_flags == [flags]


def test_its_stream_goes_before_all_others() -> None:
    device = StandIn()
    opened(device)
    assert [stream.priority for stream in device._streams()] == [-5]  # the greatest here


class FakeKernels:
    """An ``IRuntimeCache``."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    def deserialize(self, blob: bytes) -> bool:
        self.read.append(bytes(blob))
        return blob != b"foreign"

    def serialize(self) -> bytes:
        return b"kernels"


class FakeConfig:
    """An ``IRuntimeConfig``."""

    def __init__(self) -> None:
        self.cache: FakeKernels | None = None
        self.made = FakeKernels()

    def create_runtime_cache(self) -> FakeKernels:
        return self.made

    def set_runtime_cache(self, cache: FakeKernels) -> bool:
        self.cache = cache
        return True


class RtxEngine(StandInEngine):
    """An engine of TensorRT-RTX, which compiles kernels on the GPU that it runs on."""

    def __init__(self, device: StandIn) -> None:
        super().__init__(device)
        self.config = FakeConfig()

    def create_runtime_config(self) -> FakeConfig:
        return self.config

    def create_execution_context(self, config: FakeConfig | None = None) -> Any:
        assert config is self.config
        assert config.cache is config.made
        return super().create_execution_context()


@pytest.mark.parametrize("known", [None, b"earlier kernels", b"foreign"])
def test_kernels_compiled_at_first_use_are_kept_for_the_next_start(
    tmp_path: Path, known: bytes | None
) -> None:
    file = tmp_path / "e.kernels"
    if known is not None:
        file.write_bytes(known)
    device = StandIn()
    engine = RtxEngine(device)
    opened(device, engine, cache_file=file).close()
    assert engine.config.made.read == ([] if known is None else [known])
    assert file.read_bytes() == b"kernels"
    assert list(tmp_path.iterdir()) == [file]


def test_kernels_that_cannot_be_kept_cost_time_only(tmp_path: Path) -> None:
    device = StandIn()
    opened(device, RtxEngine(device), cache_file=tmp_path / "no" / "e.kernels").close()
    assert device.alive == {}
