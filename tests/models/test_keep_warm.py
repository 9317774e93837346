"""Keeping the GPU warm: a trifle between frames, never during one, never two at once, and a clean end."""

import threading

import pytest

from endostream.models.cuda_device import Cuda, CudaFailed
from endostream.models.keep_warm import KeepWarm

from .cuda_stand_in import StandIn

NEVER_S = 3600.0


class WatchedStandIn(StandIn):
    """Says when a trifle comes."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = threading.Event()
        self.threads: set[str] = set()

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: object) -> tuple[int]:  # noqa: N802, N803
        self.threads.add(threading.current_thread().name)
        answer = super().cudaMemsetAsync(devPtr, value, count, stream)
        self.stream(stream).drain()
        self.touched.set()
        return answer


def test_the_thread_touches_the_gpu_by_itself_and_ends_when_told() -> None:
    device = WatchedStandIn()
    warm = KeepWarm(Cuda(0, device), 0.001)
    assert device.touched.wait(10)
    warm.close()
    warm.close()
    assert device.threads == {"keep-warm"}
    assert device.done("cudaSetDevice") == 1
    assert device.alive == {}
    assert device.violations == []


def test_no_trifle_while_a_frame_is_under_way() -> None:
    device = StandIn()
    warm = KeepWarm(Cuda(0, device), NEVER_S)
    warm.busy = True
    warm.touch()
    assert device.done("cudaMemsetAsync") == 0
    warm.busy = False
    warm.touch()
    assert device.done("cudaMemsetAsync") == warm.touches == 1
    warm.close()


def test_no_second_trifle_before_the_first_is_done() -> None:
    device = StandIn()
    warm = KeepWarm(Cuda(0, device), NEVER_S)
    for _ in range(5):
        warm.touch()
    assert warm.touches == 1
    warm.close()
    assert device.violations == []


def test_its_stream_is_behind_all_others() -> None:
    device = StandIn()
    warm = KeepWarm(Cuda(0, device), NEVER_S)
    assert [stream.priority for stream in device._streams()] == [0]  # 0 is the least, -5 the greatest here
    warm.close()


def test_an_error_of_the_gpu_ends_the_thread_and_everything_is_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = StandIn()
    device.fail("cudaMemsetAsync", 700)
    warm = KeepWarm(Cuda(0, device), 0.001)
    warm._thread.join(10)
    assert not warm._thread.is_alive()
    assert "keep-warm: cudaMemsetAsync: cudaErrorIllegalAddress" in caplog.text
    warm.close()
    assert device.alive == {}


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaStreamCreateWithPriority"])
def test_what_cannot_be_allocated_leaves_nothing_behind(name: str) -> None:
    device = StandIn()
    device.fail(name, 2)
    with pytest.raises(CudaFailed):
        KeepWarm(Cuda(0, device), NEVER_S)
    assert device.alive == {}
    assert not [thread for thread in threading.enumerate() if thread.name == "keep-warm"]
