"""Clocks and load of the machine while something is measured: processor, each stage, GPU where there is one.

A thread that looks twice a second; what it costs is a millisecond or two each time and is part of what is measured.
Memory is constant: when 600 samples are there, two become one and it looks half as often. Separate from the run, which
it does not touch. Whatever cannot be read is left out, never guessed.
"""

import contextlib
import importlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

FIRST_INTERVAL_S = 0.5
MOST_SAMPLES = 600
_CPUFREQ = "/sys/devices/system/cpu"
_WORKER = "endostream.pipeline.worker"

Sample = dict[str, float]
"""``at_s`` since the start of the watch, and values by name; what could not be read is missing."""


class MachineWatch:
    """Watches until it is closed; ``samples`` is what it saw.

    Args:
        pid: of the command whose stages are watched; None for the machine alone.
    """

    def __init__(self, pid: int | None = None) -> None:
        self.samples: list[Sample] = []
        self._command = None if pid is None else _process(pid)
        self._stages: dict[int, tuple[str, psutil.Process]] = {}
        self._used: dict[str, tuple[float, float]] = {}
        self._gpu = _gpu_reader()
        self._begun_s = time.monotonic()
        self._interval_s = FIRST_INTERVAL_S
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine-watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; may be called twice."""
        self._over.set()
        self._thread.join(5.0)

    def _watch(self) -> None:
        psutil.cpu_percent(percpu=True)  # the first call of a thread only starts its count
        while not self._over.wait(self._interval_s):
            self.samples.append(self._sample())
            if len(self.samples) >= MOST_SAMPLES:
                self.samples = thinned(self.samples)
                self._interval_s *= 2

    def _sample(self) -> Sample:
        sample: Sample = {"at_s": round(time.monotonic() - self._begun_s, 3)}
        loads = psutil.cpu_percent(percpu=True)
        sample["cpu_percent"] = round(sum(loads) / len(loads), 1)
        sample["busiest_core_percent"] = max(loads)
        sample["load_1min"] = round(os.getloadavg()[0], 2)
        sample["memory_available_mib"] = psutil.virtual_memory().available >> 20
        if (mhz := cpu_mhz()) is not None:
            sample["cpu_mhz"] = mhz
        return sample | self._stage_cores() | self._gpu()

    def _stage_cores(self) -> Sample:
        """Cores each process of the run used since the last look, as ``stage.NAME``."""
        sample: Sample = {}
        for name, process in self._processes():
            with contextlib.suppress(psutil.Error):
                times, now_s = process.cpu_times(), time.monotonic()
                used_s = times.user + times.system
                before = self._used.get(f"{name} {process.pid}")
                self._used[f"{name} {process.pid}"] = (now_s, used_s)
                if before is not None and now_s > before[0]:
                    sample[f"stage.{name}"] = round((used_s - before[1]) / (now_s - before[0]), 3)
        return sample

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        if self._command is None:
            return []
        found = [("supervisor", self._command)]
        with contextlib.suppress(psutil.Error):
            for child in self._command.children():
                if child.pid not in self._stages:
                    words = child.cmdline()
                    if _WORKER not in words:
                        continue
                    self._stages[child.pid] = (words[words.index(_WORKER) + 1], child)
                found.append(self._stages[child.pid])
        return found


def thinned(samples: list[Sample]) -> list[Sample]:
    """Two samples become one: the mean of what both have, the later time."""
    pairs = zip(samples[::2], samples[1::2], strict=False)
    return [
        {
            name: second[name]
            if name == "at_s"
            else round((first.get(name, second[name]) + second[name]) / 2, 3)
            for name in second
        }
        for first, second in pairs
    ]


def cpu_mhz() -> float | None:
    """Mean clock of all cores now, as the kernel tells it; None where it does not (many virtual machines)."""
    found = []
    for path in Path(_CPUFREQ).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()) / 1000)
    if not found:
        with contextlib.suppress(OSError):
            text = Path("/proc/cpuinfo").read_text(errors="replace")
            found = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
    return round(sum(found) / len(found), 1) if found else None


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _gpu_reader() -> Callable[[], Sample]:
    """Reads the first NVIDIA GPU's clocks, load, temperature and power; reads nothing where there is none."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # not installed, or a driver without it: the report says that no GPU was watched
        return dict
    return lambda: _gpu_sample(nvml, handle)


def _gpu_sample(nvml: Any, handle: Any) -> Sample:
    readers: dict[str, Callable[[], float]] = {
        "gpu_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "gpu_sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "gpu_memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "gpu_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "gpu_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
    sample: Sample = {}
    for name, read in readers.items():
        with contextlib.suppress(nvml.NVMLError):
            sample[name] = float(read())
    return sample
