"""What a run was measured on: processor, cores, memory, GPU, versions, commit. Goes into every report.

Separate because a number without its machine says little, and because it must stay quick and import nothing
heavy: versions come from the packages' metadata and file names, never from importing OpenCV, Numba or
TensorFlow. Whatever cannot be read is None; nothing here raises.
"""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "endostream",
    "av",
    "opencv-python",
    "pygame-ce",
    "numpy",
    "numba",
    "pyzmq",
    "openvino",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorflow",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "cuda-bindings",
)
CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
NVIDIA_PROC = Path("/proc/driver/nvidia")
CHECKOUT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """The machine and the software, for the report's ``environment`` (in the order of docs/design.md).

    ``cores`` are those this process may run on; clock rates in MHz, memory in MiB, load over the last minute.
    """
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "gpu": _gpu(),
        "versions": _versions(),
        "commit": commit(CHECKOUT),
        "cores_of_machine": os.cpu_count(),
        "cpu_governor": _text(CPUFREQ / "scaling_governor"),
        "cpu_mhz": _cpu_mhz(),
        "memory_mib": _memory_mib("MemTotal"),
        "memory_available_mib": _memory_mib("MemAvailable"),
        "load_1min": round(os.getloadavg()[0], 2),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def commit(checkout: Path) -> str | None:
    """Commit of a checkout, with ``+dirty`` if tracked files were changed; None where there is none."""
    if not (checkout / ".git").exists():
        return None
    git = ("git", "--no-optional-locks", "-C", str(checkout))
    return _output((*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+dirty"))


def _text(path: Path) -> str | None:
    """The stripped content of a small file, None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _output(command: tuple[str, ...], timeout_s: float = 5.0) -> str | None:
    """First line a command prints, None if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def _cpu_model() -> str:
    """The processor by name, else its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _cpu_mhz() -> float | None:
    """Clock of the first core just now, in MHz."""
    if khz := _text(CPUFREQ / "scaling_cur_freq"):
        return round(int(khz) / 1000, 1)
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", _text(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return float(found[1]) if found else None


def _memory_mib(name: str) -> int | None:
    """A line of the kernel's memory account, in MiB."""
    found = re.search(rf"^{name}:\s*(\d+) kB", _text(Path("/proc/meminfo")) or "", re.MULTILINE)
    return int(found[1]) >> 10 if found else None


def _usable_cores() -> int:
    """Cores this process may be scheduled on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _gpu() -> dict[str, str | None] | None:
    """Name and driver of the first NVIDIA GPU, None without one.

    The driver's own files answer at once; ``nvidia-smi`` takes up to seconds where the driver sleeps.
    """
    for information in sorted(NVIDIA_PROC.glob("gpus/*/information")):
        if model := re.search(r"^Model:\s*(.+)$", _text(information) or "", re.MULTILINE):
            driver = re.search(r"\b(\d+\.[\d.]+)", _text(NVIDIA_PROC / "version") or "")
            return {"name": model[1], "driver": driver[1] if driver else None}
    line = _output(("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"))
    if line is None:
        return None
    name, _, driver_version = line.partition(", ")
    return {"name": name, "driver": driver_version or None}


def _versions() -> dict[str, str | None]:
    """Versions of Python, of the packages (None: not installed) and of the C libraries bundled with them."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions | _bundled("av", r"^(libav\w+|libsw\w+)-\w+\.so\.([\d.]+)$") | {"libzmq": _libzmq()}


def _bundled(package: str, pattern: str) -> dict[str, str | None]:
    """Shared libraries in a wheel whose file name matches ``pattern`` (name, version)."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    return {found[1]: found[2] for file in files if (found := re.match(pattern, file.name))}


def _libzmq() -> str | None:
    """Version of libzmq: pyzmq is light, and every run has imported it anyway."""
    try:
        import zmq
    except ImportError:
        return None
    return zmq.zmq_version()
