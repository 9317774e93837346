"""Inference alone, on every runtime that works on this machine: back to back, and at the cadence of a live source.

    python tests/bench/bench_gpu.py [--json FILE] [--quick]

One picture of 320 × 320 in host memory to its mask in host memory, with the default segmenter. Back to back says what
the hardware can do; at 25 a second, with 40 ms of idling in between, is what a live run gets: a GPU clocks down
meanwhile, a core falls asleep. The clock is the GPU's just after an answer (nvidia-ml-py); beside it a GPU's floor
that the network's operations and bytes give. Where there is no GPU the CPU's runtimes are measured; where a GPU has no
TensorRT, our own copies and graph around a small kernel are. Without a GPU it says nothing of one.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from endostream.configs.errors import EndostreamError
from endostream.models.cuda_device import Cuda, CudaFailed, no_gpu_reason, sm_clock_now_mhz
from endostream.models.runtimes import RUNTIMES, open_preset, why_not
from endostream.models.self_test import reference_picture
from endostream.models.trt_gpu import read_gpu
from floor import Work, gpu_peak, network_work
from results import Promise, Result, Table, bench_parser, conclude, percentiles, this_machine

PRESET = "resunet-small"
INPUT_HW = (320, 320)
FPS = 25
WANTED_MS = 2.0
"""For the median of a TensorRT engine in float16, back to back."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to compute a mask: ``options`` are the segmenter's; ``runtime`` "" is our copies around a kernel."""

    label: str
    runtime: str
    precision: str
    options: dict[str, Any] = field(default_factory=dict)


CONTESTANTS = (
    *(
        Contestant(f"{title}, {precision}{more}", runtime, precision, options)
        for runtime, title in (("tensorrt", "TensorRT"), ("rtx", "TensorRT-RTX"))
        for precision, more, options in (
            ("fp32", "", {}),
            ("fp16", "", {}),
            ("fp16", ", no graph", {"cuda_graph": False}),
            ("fp16", ", spinning", {"spin": True}),
            ("fp16", ", kept warm", {"keep_warm_ms": 2.0}),
            ("int8", "", {}),
        )
    ),
    Contestant("our copies and graph alone, one small kernel", "", "fp32"),
    Contestant("ONNX Runtime, CUDA, fp32", "onnxruntime-cuda", "fp32"),
    Contestant("OpenVINO, CPU, int8", "openvino", "int8"),
    Contestant("OpenVINO, CPU, fp32", "openvino", "fp32"),
    Contestant("ONNX Runtime, CPU, fp32", "onnxruntime", "fp32"),
)

Infer = Callable[[np.ndarray], object]


@contextmanager
def opened(contestant: Contestant) -> Iterator[tuple[Infer, str]]:
    """What computes a mask, and its name with version. Raises EndostreamError or RuntimeError if it cannot."""
    if not contestant.runtime:
        with small_kernel() as infer:
            yield infer, "cuda.bindings"
        return
    segmenter = open_preset(PRESET, contestant.runtime, precision=contestant.precision, **contestant.options)
    try:
        segmenter.warm_up()
        yield segmenter.segment, segmenter.info.runtime
    finally:
        segmenter.close()


@contextmanager
def small_kernel() -> Iterator[Infer]:
    """The runner of engines around a kernel of a few lines: what copies, graph and waiting take."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
    from kernel_engine import KernelEngine

    from endostream.models.trt_runner import TrtRunner

    cuda = Cuda()
    cuda.use_device()
    cuda.call("cudaFree", 0)
    runner = TrtRunner(cuda, KernelEngine(INPUT_HW, read_gpu().compute_capability), INPUT_HW)
    try:
        yield runner.run
    finally:
        runner.close()


def missing(contestant: Contestant) -> str:
    """Why a contestant cannot run here, "" where nothing speaks against it."""
    return why_not(contestant.runtime) if contestant.runtime else no_gpu_reason()


def back_to_back(infer: Infer, shown: np.ndarray, count: int) -> list[float]:
    """Milliseconds of each of ``count`` answers in a row."""
    times_ms = []
    for _ in range(count):
        begun_ns = time.perf_counter_ns()
        infer(shown)
        times_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
    return times_ms


def at_cadence(
    infer: Infer, shown: np.ndarray, count: int, clock_mhz: Callable[[], int | None]
) -> tuple[list[float], list[int]]:
    """The same with a picture every 40 ms, and the GPU's clock after every tenth: asking wakes it a little."""
    times_ms, clocks_mhz = [], []
    due_ns = time.perf_counter_ns()
    for number in range(count):
        due_ns += 1_000_000_000 // FPS
        time.sleep(max(0, due_ns - time.perf_counter_ns()) / 1e9)
        times_ms += back_to_back(infer, shown, 1)
        if number % 10 == 0 and (clock := clock_mhz()) is not None:
            clocks_mhz.append(clock)
    return times_ms, clocks_mhz


def gpu_bus_id() -> str:
    """By which NVML knows GPU 0; "" without a GPU or cuda-bindings."""
    try:
        return "" if no_gpu_reason() else Cuda().pci_bus_id()
    except (EndostreamError, CudaFailed):
        return ""


def measure(count: int, live_count: int) -> dict[str, Any]:
    """All contestants; of those that cannot run here, why."""
    shown = reference_picture(INPUT_HW)
    bus_id = gpu_bus_id()
    ran: dict[str, Any] = {}
    not_run: dict[str, str] = {}
    for contestant in CONTESTANTS:
        if reason := missing(contestant):
            not_run[contestant.label] = reason
            continue
        print(contestant.label, file=sys.stderr)
        on_gpu = not contestant.runtime or RUNTIMES[contestant.runtime].on_gpu
        clock = (lambda: sm_clock_now_mhz(bus_id)) if on_gpu and bus_id else (lambda: None)
        try:
            with opened(contestant) as (infer, runtime):
                in_a_row = back_to_back(infer, shown, count)
                live, clocks_mhz = at_cadence(infer, shown, live_count, clock)
        except (EndostreamError, RuntimeError, ImportError) as error:
            not_run[contestant.label] = str(error)
            continue
        ran[contestant.label] = {
            "runtime": runtime,
            "precision": contestant.precision,
            "on_gpu": on_gpu,
            "back_to_back_ms": percentiles(in_a_row),
            "live_ms": percentiles(live),
            "clock_mhz": float(np.median(clocks_mhz)) if clocks_mhz else None,
        }
    return {"ran": ran, "not_run": not_run, "fps": FPS}


def result_of(numbers: dict[str, Any]) -> Result:
    """Tables and the promise."""
    ran, not_run = numbers["ran"], numbers["not_run"]
    columns = ["", "p50", "p99", "max", "live p50", "live p99", "live max", "GPU clock, MHz"]
    rows = [
        [
            label,
            *(f"{one['back_to_back_ms'][key]:.2f}" for key in ("p50", "p99", "max")),
            *(f"{one['live_ms'][key]:.2f}" for key in ("p50", "p99", "max")),
            "–" if one["clock_mhz"] is None else f"{one['clock_mhz']:.0f}",
        ]
        for label, one in ran.items()
    ]
    tables = [Table(f"A picture to its mask, ms: back to back, and live at {FPS} a second", columns, rows)]
    if any(one["on_gpu"] for one in ran.values()):
        tables.append(floor_table(numbers))
    if not_run:
        why = {re.split(", (?:fp|int)", label)[0]: reason for label, reason in not_run.items()}
        tables.append(Table("Not run here", ["", "why"], [[label, reason] for label, reason in why.items()]))
    promises = [
        Promise(
            f"{label}: median below {WANTED_MS:g} ms back to back ({one['back_to_back_ms']['p50']:.2f} ms)",
            one["back_to_back_ms"]["p50"] < WANTED_MS,
        )
        for label, one in ran.items()
        if one["on_gpu"] and one["precision"] == "fp16" and label.endswith("fp16")
    ]
    return Result("gpu", numbers, tables, promises)


def floor_table(numbers: dict[str, Any]) -> Table:
    """What operations and bytes alone would take, at each precision that ran on the GPU."""
    work: Work = network_work(PRESET)
    ran = numbers["ran"].items()
    precisions = {one["precision"] for label, one in ran if one["on_gpu"] and "alone" not in label}
    rows = []
    for precision in sorted(precisions):
        try:
            peak = gpu_peak(precision)
        except (EndostreamError, RuntimeError) as error:  # CudaFailed is one
            rows.append([f"GPU, {precision}", str(error), *["–"] * 4])
            continue
        floor = work.floor_ms(peak, precision)
        numbers.setdefault("floor", {})[precision] = floor
        rows.append(
            [
                f"GPU, {precision}",
                f"{peak.operations_per_s / 1e12:.2f}",
                f"{peak.bytes_per_s / 1e9:.0f}",
                *(f"{floor[key]:.3f}" for key in ("operations", "weights", "activations")),
            ]
        )
    title = f"The floor for {work.operations / 1e9:.2f} G operations, {work.weights / 1e6:.2f} M weights, ms"
    columns = [
        "",
        "T operations/s",
        "GB/s",
        "operations",
        "weights read once",
        "and every layer's picture too",
    ]
    return Table(title, columns, rows)


def main() -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    numbers = measure(*((60, 50) if arguments.quick else (2000, 500)))
    return conclude(result_of(numbers), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
