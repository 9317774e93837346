"""The machine is watched in constant memory; what cannot be read is left out; a GPU is read through NVML."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from endostream.pipeline.profile import machine_watch
from endostream.pipeline.profile.machine_watch import MachineWatch, cpu_mhz, thinned


class NvmlError(Exception):
    """What the real module raises."""


def nvml(**missing: bool) -> SimpleNamespace:
    """A stand-in for pynvml with one GPU; what is ``missing`` raises."""

    def reader(name: str, value: object) -> object:
        def read(*arguments: object) -> object:
            if missing.get(name):
                raise NvmlError(name)
            assert arguments[0] == "handle"
            return value

        return read

    return SimpleNamespace(
        NVMLError=NvmlError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: "handle",
        nvmlDeviceGetUtilizationRates=reader("percent", SimpleNamespace(gpu=37)),
        nvmlDeviceGetClockInfo=reader("clock", 1755),
        nvmlDeviceGetTemperature=reader("celsius", 61),
        nvmlDeviceGetPowerUsage=reader("watts", 181_500),
    )


def test_a_gpu_is_read_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert machine_watch._gpu_reader()() == {
        "gpu_percent": 37.0,
        "gpu_sm_mhz": 1755.0,
        "gpu_memory_mhz": 1755.0,
        "gpu_celsius": 61.0,
        "gpu_watts": 181.5,
    }


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(watts=True, clock=True))
    assert machine_watch._gpu_reader()() == {"gpu_percent": 37.0, "gpu_celsius": 61.0}


def test_without_driver_or_module_no_gpu_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise NvmlError("driver not loaded")

    broken = nvml()
    broken.nvmlInit = no_driver
    for module in (broken, None):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        assert machine_watch._gpu_reader()() == {}


def test_two_samples_become_one_mean_at_the_later_time() -> None:
    samples = [{"at_s": 1.0, "cpu_percent": 10.0}, {"at_s": 2.0, "cpu_percent": 20.0, "stage.infer": 0.5}]
    assert thinned([*samples, *samples]) == [{"at_s": 2.0, "cpu_percent": 15.0, "stage.infer": 0.5}] * 2


def test_it_watches_the_machine_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_watch, "FIRST_INTERVAL_S", 0.001)
    monkeypatch.setattr(machine_watch, "MOST_SAMPLES", 8)
    enough = threading.Event()

    class Counting(list[machine_watch.Sample]):
        def append(self, sample: machine_watch.Sample) -> None:
            super().append(sample)
            if len(self) == 5:
                enough.set()

    with MachineWatch(os.getpid()) as watch:
        watch.samples = Counting()
        assert enough.wait(20)
    assert not watch._thread.is_alive()
    assert len(watch.samples) <= 8
    for sample in watch.samples:
        assert 0 <= sample["cpu_percent"] <= 100
        assert sample["memory_available_mib"] > 0
    assert any("stage.supervisor" in sample for sample in watch.samples)


def test_the_clock_is_in_megahertz_where_the_kernel_tells_it() -> None:
    mhz = cpu_mhz()
    assert mhz is None or 100 < mhz < 10_000
