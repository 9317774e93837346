"""How fast a network could be at best on a GPU: its operations and bytes over what the GPU can do of either.

Separate from the benchmark, which measures. A floor is what no implementation beats, not what one may hope for: kernels
reach half of the peak at best on pictures of this size, and each one takes some microseconds to begin. Of a CPU there
is none: nobody publishes its peak for INT8, and NumPy's product of matrices, measured in its place, was beaten.
"""

from dataclasses import dataclass

from endostream.models.cuda_device import Cuda
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


@dataclass(frozen=True, slots=True)
class Peak:
    """What a GPU can do at most in a second."""

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
