"""On any NVIDIA GPU: buffers, streams, copies, graph and errors, with a small kernel in the engine's place.

Needs cuda-bindings, NVRTC and a driver, no TensorRT: so it runs on SM90 too, which TensorRT-RTX has no target for.
Run by ``make test-gpu``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.models.cuda_device import Cuda, CudaFailed, no_gpu_reason
from endostream.models.keep_warm import KeepWarm
from endostream.models.trt_gpu import GpuTraits, read_gpu
from endostream.models.trt_runner import TrtRunner

from .kernel_engine import KernelContext, KernelEngine, compiled, expected

pytestmark = pytest.mark.gpu
SIZE = (320, 320)
MIB = 1 << 20


@pytest.fixture
def gpu() -> GpuTraits:
    if reason := no_gpu_reason():
        pytest.skip(reason)
    return read_gpu()


@pytest.fixture
def cuda(gpu: GpuTraits) -> Iterator[Cuda]:
    used = Cuda()
    used.use_device()
    used.call("cudaFree", 0)  # makes the primary context, which the driver's calls need
    yield used
    assert int(used.bindings.cudaGetLastError()[0]) == 0


def opened(cuda: Cuda, gpu: GpuTraits, launches: int = 1, **options: Any) -> TrtRunner:
    return TrtRunner(cuda, KernelEngine(SIZE, gpu.compute_capability, launches), SIZE, **options)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.mark.parametrize("architecture", ["7.5", "8.6", "8.9", "9.0", "12.0"])
def test_the_kernel_compiles_for_every_gpu_we_speak_of(architecture: str) -> None:
    assert compiled(architecture).startswith(b"\x7fELF")


@pytest.mark.parametrize("spin", [False, True])
@pytest.mark.parametrize("use_graph", [False, True])
def test_the_answer_is_that_of_the_picture_shown(
    cuda: Cuda, gpu: GpuTraits, use_graph: bool, spin: bool
) -> None:
    runner = opened(cuda, gpu, 20, use_graph=use_graph, spin=spin)
    assert (runner.is_graph, runner.graph_problem) == (use_graph, "" if use_graph else "not asked for")
    for seed in range(20):
        mask, prob = expected(picture(seed))
        assert np.array_equal(runner.run(picture(seed)) != 0, mask)
        assert np.abs(runner.prob() - prob).max() < 1e-6
    runner.close()


def test_two_runners_do_not_disturb_each_other(cuda: Cuda, gpu: GpuTraits) -> None:
    one, other = opened(cuda, gpu), opened(cuda, gpu)
    for seed in range(10):
        first, second = picture(seed), picture(seed + 100)
        one.run(first)
        other.run(second)
        assert np.abs(one.prob() - expected(first)[1]).max() < 1e-6
        assert np.abs(other.prob() - expected(second)[1]).max() < 1e-6
    one.close()
    assert np.array_equal(other.run(picture(7)) != 0, expected(picture(7))[0])
    other.close()


def test_ten_thousand_frames_leave_memory_as_it_was(cuda: Cuda, gpu: GpuTraits) -> None:
    import psutil

    runner = opened(cuda, gpu, 5)
    shown = picture()
    process = psutil.Process()
    for _ in range(500):
        runner.run(shown)
        runner.prob()
    free_before, _ = cuda.call("cudaMemGetInfo")
    rss_before = process.memory_info().rss
    for _ in range(10_000):
        runner.run(shown)
        runner.prob()
    free_after, _ = cuda.call("cudaMemGetInfo")
    assert free_before - free_after < MIB
    assert process.memory_info().rss - rss_before < 8 * MIB
    runner.close()


def test_a_hundred_openings_leave_memory_as_it_was(cuda: Cuda, gpu: GpuTraits) -> None:
    engine = KernelEngine(SIZE, gpu.compute_capability)
    TrtRunner(cuda, engine, SIZE).close()
    free_before, _ = cuda.call("cudaMemGetInfo")
    for _ in range(100):
        TrtRunner(cuda, engine, SIZE).close()
    free_after, _ = cuda.call("cudaMemGetInfo")
    assert free_before - free_after < 4 * MIB


class Uncapturable(KernelEngine):
    """Waits for its stream while being recorded, which CUDA does not allow."""

    def __init__(self, cuda: Cuda, gpu: GpuTraits) -> None:
        super().__init__(SIZE, gpu.compute_capability)
        self._cuda = cuda

    def create_execution_context(self) -> KernelContext:
        context = super().create_execution_context()
        context.before = lambda: self._cuda.call("cudaDeviceSynchronize")  # type: ignore[method-assign]
        return context


def test_what_cannot_be_captured_runs_call_by_call(cuda: Cuda, gpu: GpuTraits) -> None:
    runner = TrtRunner(cuda, Uncapturable(cuda, gpu), SIZE)
    assert not runner.is_graph
    assert "cudaErrorStreamCapture" in runner.graph_problem
    assert np.array_equal(runner.run(picture(3)) != 0, expected(picture(3))[0])
    runner.close()


def test_keeping_warm_disturbs_neither_recording_nor_answers(cuda: Cuda, gpu: GpuTraits) -> None:
    warm = KeepWarm(cuda, 0.0005)
    for seed in range(5):
        runner = opened(cuda, gpu, 20)
        assert runner.is_graph
        for _ in range(200):
            assert np.array_equal(runner.run(picture(seed)) != 0, expected(picture(seed))[0])
        runner.close()
    warm.close()
    assert warm.touches > 0
    assert not warm._thread.is_alive()


def test_too_much_memory_is_an_error_that_leaves_the_gpu_usable(cuda: Cuda, gpu: GpuTraits) -> None:
    with pytest.raises(CudaFailed, match=r"cudaMalloc: cudaErrorMemoryAllocation \(out of memory\)"):
        cuda.call("cudaMalloc", 1 << 50)
    cuda.bindings.cudaGetLastError()
    runner = opened(cuda, gpu)
    assert np.array_equal(runner.run(picture()) != 0, expected(picture())[0])
    runner.close()


FATAL = """
import numpy as np
from endostream.models.cuda_device import Cuda, CudaFailed
from endostream.models.trt_gpu import read_gpu
from endostream.models.trt_runner import TrtRunner
from kernel_engine import KernelEngine
cuda = Cuda()
cuda.use_device()
cuda.call("cudaFree", 0)
runner = TrtRunner(cuda, KernelEngine((8, 8), read_gpu().compute_capability), (8, 8), use_graph=False)
runner._context.spoil = True
for _ in range(2):
    try:
        runner.run(np.zeros((8, 8, 3), np.uint8))
    except CudaFailed as error:
        print(error)
runner.close()
print("closed")
"""


def test_an_illegal_access_is_told_stays_and_lets_everything_be_closed(gpu: GpuTraits) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", FATAL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    first, second, last = done.stdout.splitlines()
    assert "cudaErrorIllegalAddress" in first
    assert "cudaErrorIllegalAddress" in second
    assert (last, done.returncode) == ("closed", 0)
