"""Which TensorRT there is, in which version, and the line to install what is missing; and what is read of a GPU."""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from endostream.configs.errors import ConfigError, ExitCode, ModelError
from endostream.models.trt_flavour import Flavour, available_flavours, load_flavour
from endostream.models.trt_gpu import read_gpu


def module(version: str) -> ModuleType:
    made = ModuleType("tensorrt")
    made.__version__ = version  # type: ignore[attr-defined]
    return made


def test_tensorrt_rtx_is_loaded_with_its_full_version_and_the_gpus_it_builds_for() -> None:
    flavour = load_flavour("rtx")
    assert flavour.module is importlib.import_module("tensorrt_rtx")
    assert flavour.version == flavour.module.__version__
    assert flavour.label == f"rtx {flavour.version}"
    assert {"sm86", "sm89", "sm120"} <= set(flavour.ahead_targets())
    assert list(flavour.ahead_targets()) == sorted(flavour.ahead_targets(), key=lambda sm: int(sm[2:]))


@pytest.mark.parametrize("version", ["10.0.1", "10.16.0.72", "11.1.0.106"])
def test_data_centre_tensorrt_10_and_newer_are_taken_and_build_for_no_absent_gpu(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module(version))
    flavour = load_flavour("tensorrt")
    assert (flavour.label, flavour.ahead_targets()) == (f"tensorrt {version}", ())


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "unknown"])
def test_an_older_tensorrt_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module(version))
    with pytest.raises(ModelError, match=rf"runtime tensorrt: {version}; expected 10 or newer"):
        load_flavour("tensorrt")


@pytest.mark.parametrize(
    ("name", "missing", "line"),
    [
        ("tensorrt", "tensorrt", "pip install 'endostream[tensorrt]'"),
        ("rtx", "tensorrt_rtx", "pip install 'endostream[tensorrt-rtx]'"),
    ],
)
def test_one_that_is_not_installed_is_exit_code_4_with_the_line_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModelError) as caught:
        load_flavour(name)
    assert str(caught.value) == f"runtime {name}: not installed. Try: {line}"
    assert caught.value.exit_code == ExitCode.MODEL == 4


@pytest.mark.parametrize(
    "error",
    [
        OSError("libnvinfer.so.10: cannot open shared object file"),
        ModuleNotFoundError("libnvinfer.so.10: cannot open shared object file", name="tensorrt_libs"),
    ],
)
def test_one_whose_libraries_are_missing_says_so(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr("endostream.models.trt_flavour.importlib.import_module", fail)
    with pytest.raises(ModelError, match=r"cannot be loaded here \(libnvinfer.so.10"):
        load_flavour("tensorrt")


def test_another_name_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="'cuda'; expected tensorrt or rtx"):
        load_flavour("cuda")


def test_those_available_have_a_version_and_the_others_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = available_flavours()
    assert found == {
        "tensorrt": "runtime tensorrt: not installed. Try: pip install 'endostream[tensorrt]'",
        "rtx": load_flavour("rtx").version,
    }


class Cuda:
    """Stands in for ``cuda.bindings.runtime`` with one RTX 3050."""

    def __init__(self, status: int = 0, count: int = 1) -> None:
        self.status, self.count = status, count

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802 (its name there)
        return self.status, self.count

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:  # noqa: N802 (its name there)
        return 0, b"no CUDA-capable device is detected"

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802 (its name there)
        names = importlib.import_module("cuda.bindings.runtime").cudaDeviceProp
        values = {
            "name": b"NVIDIA GeForce RTX 3050 Laptop GPU\0\0",
            "major": 8,
            "minor": 6,
            "multiProcessorCount": 16,
            "memoryBusWidth": 128,
            "l2CacheSize": 1 << 20,
            "sharedMemPerMultiprocessor": 102400,
            "sharedMemPerBlockOptin": 101376,
            "regsPerMultiprocessor": 65536,
            "textureAlignment": 512,
            "integrated": 0,
        }
        assert all(hasattr(names, name) for name in values)  # the real package has them all
        return 0, SimpleNamespace(**values)


def test_the_traits_of_a_gpu_are_read() -> None:
    gpu = read_gpu(0, Cuda())
    assert (gpu.name, gpu.target) == ("NVIDIA GeForce RTX 3050 Laptop GPU", "sm86")
    assert gpu.as_json()["multiprocessors"] == 16
    assert gpu.integrated is False


@pytest.mark.parametrize(
    ("cuda", "device", "said"),
    [
        (Cuda(status=100), 0, r"GPU: none can be used here \(no CUDA-capable device is detected\)"),
        (Cuda(count=1), 1, "GPU 1: no such device; expected 0 to 0"),
        (Cuda(), -1, "GPU -1: no such device"),
    ],
)
def test_no_gpu_and_a_number_too_high_are_told(cuda: Cuda, device: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_gpu(device, cuda)


def test_without_a_driver_nothing_of_cuda_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endostream.models.trt_gpu.no_gpu_reason", lambda: "no NVIDIA driver")
    monkeypatch.setattr("endostream.models.trt_gpu._bindings", lambda: pytest.fail("imported"))
    with pytest.raises(
        ModelError, match=r"GPU: no NVIDIA driver\. Try: endostream build-engine --runtime rtx"
    ):
        read_gpu()


def test_flavours_are_told_apart_by_value() -> None:
    assert load_flavour("rtx") == load_flavour("rtx")
    assert isinstance(load_flavour("rtx"), Flavour)
