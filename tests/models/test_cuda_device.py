"""CUDA's answers are looked at, one by one, and a machine without a GPU finds out from the driver alone."""

import ctypes
from typing import Any

import pytest

from endostream.configs.errors import ModelError
from endostream.models import cuda_device
from endostream.models.cuda_device import Cuda, CudaFailed, GpuClocks, no_gpu_reason
from endostream.models.segmenter import SegmenterLost

from .cuda_stand_in import StandIn


class FakeDriver:
    """NVIDIA's driver library as ctypes shows it."""

    def __init__(self, status: int = 0, devices: int = 1) -> None:
        self._status = status
        self._devices = devices

    def cuInit(self, flags: int) -> int:  # noqa: N802 (NVIDIA's name)
        return self._status

    def cuGetErrorName(self, status: int, name: Any) -> int:  # noqa: N802
        if status != 34:
            return 1
        name._obj.value = b"CUDA_ERROR_STUB_LIBRARY"
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._devices
        return 0


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (None, "no NVIDIA driver (libcuda.so.1 cannot be loaded)"),
        (FakeDriver(status=34), "NVIDIA's driver cannot be used (CUDA_ERROR_STUB_LIBRARY)"),
        (FakeDriver(status=999), "NVIDIA's driver cannot be used (error 999)"),
        (FakeDriver(devices=0), "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES?)"),
        (FakeDriver(), ""),
    ],
)
def test_the_driver_says_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None, reason: str
) -> None:
    def load(name: str) -> FakeDriver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError("no such file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert no_gpu_reason() == reason


def test_a_call_that_fails_is_an_error_with_cudas_own_name_and_text() -> None:
    device = StandIn()
    device.fail("cudaMalloc", 2)
    with pytest.raises(CudaFailed, match=r"^cudaMalloc: cudaErrorMemoryAllocation \(out of memory\)$"):
        Cuda(0, device).call("cudaMalloc", 100)


def test_an_error_of_the_gpu_is_one_that_ends_a_segmenter() -> None:
    assert issubclass(CudaFailed, SegmenterLost)


def test_an_answer_is_nothing_a_value_or_a_tuple() -> None:
    cuda = Cuda(0, StandIn())
    assert cuda.call("cudaSetDevice", 0) is None
    assert cuda.call("cudaDriverGetVersion") == 13_010
    assert cuda.call("cudaDeviceGetStreamPriorityRange") == (0, -5)


@pytest.mark.parametrize(("number", "says"), [(2, "GPU 2; expected 0 to 1"), (-1, "GPU -1; expected 0 to 1")])
def test_a_device_that_is_not_there_is_named(number: int, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Cuda(number, StandIn(devices=2)).use_device()


def test_a_driver_that_does_not_answer_is_an_error_of_the_machine() -> None:
    device = StandIn()
    device.fail("cudaGetDeviceCount", 2)
    with pytest.raises(ModelError, match=r"GPU 0: cudaErrorMemoryAllocation .* Try: endostream doctor"):
        Cuda(0, device).use_device()


def test_clocks_and_place_are_read() -> None:
    cuda = Cuda(0, StandIn())
    assert cuda.clocks() == GpuClocks(2520.0, 2520.0)
    assert cuda.pci_bus_id() == "0000:01:00.0"


def test_what_is_under_way_is_told_from_an_error() -> None:
    device = StandIn()
    cuda = Cuda(0, device)
    stream = cuda.call("cudaStreamCreateWithPriority", 1, 0)
    assert cuda.is_done(stream)
    stream.add(lambda: None)
    assert not cuda.is_done(stream)
    device.fail("cudaStreamQuery", 700)
    with pytest.raises(CudaFailed, match="cudaStreamQuery: cudaErrorIllegalAddress"):
        cuda.is_done(stream)


def test_missing_bindings_have_the_line_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'cuda'")

    monkeypatch.setattr(cuda_device.importlib, "import_module", missing)
    with pytest.raises(ModelError, match="Try: pip install cuda-bindings"):
        Cuda()


def test_without_nvml_clocks_and_driver_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "_nvml", lambda: None)
    assert cuda_device.driver_version() is None
    assert cuda_device.sm_clock_now_mhz("0000:01:00.0") is None
