"""How fast a network could be at best: its operations and bytes over what the machine can do of either.

Separate from the benchmark, which measures. A floor is what no implementation beats, not what one may hope for: kernels
reach half of the peak at best on pictures of this size, and each one takes some microseconds to begin.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

from endostream.models.cuda_device import Cuda
from endostream.models.logits_segmenter import default_threads
from endostream.models.trt_gpu import read_gpu
from endostream.models.weights_files import model_file

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
PER_CLOCK: dict[str, dict[str, int]] = {
    "7.5": {"fp32": 128, "fp16": 1024, "int8": 2048},
    "8.0": {"fp32": 128, "fp16": 2048, "int8": 4096},
    "8.6": {"fp32": 256, "fp16": 1024, "int8": 2048},
    "8.7": {"fp32": 256, "fp16": 1024, "int8": 2048},
    "8.9": {"fp32": 256, "fp16": 1024, "int8": 2048},
    "9.0": {"fp32": 256, "fp16": 4096, "int8": 8192},
    "10.0": {"fp32": 256, "fp16": 8192, "int8": 16384},
    "12.0": {"fp32": 256, "fp16": 1024, "int8": 2048},
}
"""Operations a multiprocessor does in a clock, by compute capability: float32 on CUDA cores, the others dense on tensor
cores. From NVIDIA's papers on each architecture; a multiply-add is two."""
CPU_PEAK = "; the CPU's peak is NumPy's product of matrices in as many threads as the runtimes take"
_CPU_CODE = """
import time, numpy as np
a = np.random.default_rng(0).random((512, 512), np.float32)
def best(run, times):
    taken = []
    for _ in range(times):
        begun = time.perf_counter(); run(); taken.append(time.perf_counter() - begun)
    return min(taken)
big = np.ones(64 << 20, np.uint8); to = np.empty_like(big)
print(2 * 512 ** 3 / best(lambda: a @ a, 300), 2 * big.nbytes / best(lambda: np.copyto(to, big), 30))
"""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a machine can do at most in a second."""

    operations_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a network's convolutions need: operations (a multiply-add is two), weights, and values read and written."""

    operations: int
    weights: int
    values: int

    def floor_ms(self, peak: Peak, precision: str) -> dict[str, float]:
        """Milliseconds for the operations, for the weights read once, and with every activation through memory."""
        size = BYTES[precision]
        return {
            "operations": self.operations / peak.operations_per_s * 1e3,
            "weights": self.weights * size / peak.bytes_per_s * 1e3,
            "activations": (self.weights + self.values) * size / peak.bytes_per_s * 1e3,
        }


def network_work(preset: str) -> Work:
    """Count a preset's convolutions; OpenVINO reads the file, since it is always installed."""
    import openvino

    path, _ = model_file(preset, "fp32")
    operations = weights = values = 0
    for node in openvino.Core().read_model(path).get_ops():
        if node.get_type_name() != "Convolution":
            continue
        source, kernel, output = (
            list(node.input(0).get_shape()),
            list(node.input(1).get_shape()),
            list(node.output(0).get_shape()),
        )
        operations += 2 * product(kernel) * product(output[2:])
        weights += product(kernel)
        values += product(source) + product(output)
    return Work(operations, weights, values)


def product(sides: list[int]) -> int:
    """Of the sides of a shape."""
    total = 1
    for side in sides:
        total *= int(side)
    return total


def gpu_peak(precision: str) -> Peak:
    """Of GPU 0, by its highest clocks."""
    gpu, clocks = read_gpu(), Cuda().clocks()
    if (
        gpu.compute_capability not in PER_CLOCK
        or clocks.multiprocessors_mhz is None
        or clocks.memory_mhz is None
    ):
        raise RuntimeError(f"{gpu.name}: its peak is not known; expected one of {', '.join(PER_CLOCK)}")
    per_clock = PER_CLOCK[gpu.compute_capability][precision] * gpu.multiprocessors
    # Two transfers a clock on every kind of memory they use.
    return Peak(
        per_clock * clocks.multiprocessors_mhz * 1e6, 2 * clocks.memory_mhz * 1e6 * gpu.memory_bus_bits / 8
    )


def cpu_peak(precision: str) -> Peak:
    """Measured: a product of float32 matrices and a copy; INT8 is taken to be four times as fast."""
    threads = str(default_threads())
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", _CPU_CODE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    operations_per_s, bytes_per_s = map(float, done.stdout.split())
    return Peak(operations_per_s * (4 if precision == "int8" else 1), bytes_per_s)
