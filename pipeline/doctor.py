"""What this machine and installation can do, and what not and why: the command ``endostream doctor``.

Separate because it tries things (shared memory, sockets, priorities, segmenters) that no run needs tried.
It changes nothing, and a thing that does not work here is an answer, not an error.
"""

import mmap
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from endostream.configs.errors import ModelError
from endostream.models.cuda_device import driver_version, no_gpu_reason
from endostream.models.runtimes import DRIVER_LINE, RUNTIMES, is_installed, runtime_version, why_not
from endostream.models.segmenter import SEGMENTERS, load_segmenter
from endostream.models.trt_gpu import read_gpu
from endostream.models.trt_request import engines_folder

from .environment import environment

_OK = "works"
_ORDINARY_CLASS = "capture and overlay run in the ordinary class, and later beside busy cores"
_PERMIT_REALTIME = (
    "a line '@video - rtprio 1' in /etc/security/limits.d/endostream.conf and a new login as a member of that group;"
    " LimitRTPRIO=1 in a systemd service; docker run --ulimit rtprio=1 --cap-add SYS_NICE"
)


def diagnosis() -> dict[str, Any]:
    """What was found, by heading: ``environment``, ``gpu``, and "works" or why not for each of ``checks``, ``runtimes``
    and ``segmenters``.

    ``devices``: the capture devices with ``path``, ``card``, ``modes`` in words, and ``problem`` where there is one.
    ``cache``: its ``folder``, and ``bytes`` by what is kept there.
    """
    checks = {
        "shared memory (memfd)": _try_memfd,
        "sockets (ipc)": _try_ipc,
        "priorities (nice below 0)": _try_nice,
        "real-time class": _try_realtime,
        "window": _try_window,
    }
    return {
        "environment": environment(),
        "checks": {name: _outcome(check) for name, check in checks.items()},
        "runtimes": {name: _outcome(partial(_try_runtime, name)) for name in RUNTIMES},
        "segmenters": {name: _outcome(partial(_try_segmenter, name)) for name in sorted(SEGMENTERS)},
        "devices": devices(),
        "gpu": _outcome(_try_gpu),
        "cache": cache(engines_folder().parent),
    }


def cache(folder: Path) -> dict[str, Any]:
    """What lies in the cache: engines, compiled models, answers to self-tests. All of it is made again when missed."""
    sizes: dict[str, int] = {}
    for file in folder.rglob("*"):
        with suppress(OSError):  # another run may be cleaning up
            if file.is_file():
                kind = file.relative_to(folder).parts[0]
                sizes[kind] = sizes.get(kind, 0) + file.stat().st_size
    return {"folder": str(folder), "bytes": dict(sorted(sizes.items()))}


def devices() -> list[dict[str, Any]]:
    """The capture devices as plain data."""
    if sys.platform != "linux":
        return []
    from .sources.v4l2_device import list_devices

    return [{**asdict(found), "modes": [str(mode) for mode in found.modes]} for found in list_devices()]


def diagnosis_text(found: dict[str, Any]) -> str:
    """A diagnosis for people, a line a finding."""
    machine = found["environment"]
    lines = [
        "machine",
        f"  cpu: {machine['cpu']}, {machine['cores']} of {machine['cores_of_machine']} cores usable",
        f"  memory: {machine['memory_mib']} MiB, {machine['memory_available_mib']} available",
        f"  system: {machine['kernel']}, {machine['machine']}",
        f"  gpu: {found['gpu']}",
        "versions",
    ]
    lines += [f"  {name}: {version or 'not installed'}" for name, version in machine["versions"].items()]
    for heading in ("checks", "runtimes", "segmenters"):
        lines += [heading, *(f"  {name}: {outcome}" for name, outcome in found[heading].items())]
    lines.append("capture devices")
    for device in found["devices"]:
        lines.append(f"  {device['path']}: {device['problem'] or device['card']}")
        lines += [f"    {mode}" for mode in device["modes"]]
    if not found["devices"]:
        lines.append("  none found; streams and pipe: need none")
    lines += ["cache", f"  {_cache_line(found['cache'])}"]
    return "\n".join(lines) + "\n"


def _cache_line(found: dict[str, Any]) -> str:
    sizes, folder = found["bytes"], found["folder"]
    if not sizes:
        return f"{folder}: empty"
    parts = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in sizes.items())
    whole = f"{sum(sizes.values()) / 1e6:.1f} MB"
    return f"{folder}: {whole} ({parts}), made again when missed. To clear it: rm -r {shlex.quote(folder)}"


def _outcome(check: Callable[[], str]) -> str:
    """What a check says, or in one line why it failed."""
    try:
        return check()
    except Exception as error:
        return f"no: {' '.join(str(error).split()) or type(error).__name__}"


def _try_memfd() -> str:
    if not hasattr(os, "memfd_create"):
        return "no: not on this system; named shared memory is used"
    descriptor = os.memfd_create("endostream-doctor")
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        with mmap.mmap(descriptor, mmap.PAGESIZE) as memory:
            memory[:2] = b"ok"
    finally:
        os.close(descriptor)
    return _OK


def _try_ipc() -> str:
    import zmq

    with tempfile.TemporaryDirectory(prefix="endostream-") as folder, zmq.Context() as context:
        address = f"ipc://{folder}/doctor"
        with context.socket(zmq.PULL) as reader, context.socket(zmq.PUSH) as writer:
            reader.bind(address)
            writer.connect(address)
            writer.send(b"ok")
            if not reader.poll(1000):
                return "no: nothing arrived within a second"
            reader.recv()
    return _OK


def _try_nice() -> str:
    code = "import os; os.nice(-1)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, timeout=10, check=False)
    return _OK if done.returncode == 0 else "no: not permitted; capture and overlay run at normal priority"


def _try_window() -> str:
    from .sink import check_sink, parse_sink

    check_sink(parse_sink("window"))
    return _OK


def _try_realtime() -> str:
    code = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, timeout=10, check=False)
    return _OK if done.returncode == 0 else f"no: not permitted; {_ORDINARY_CLASS}. Try: {_PERMIT_REALTIME}"


def _try_gpu() -> str:
    """The first GPU in words; raises ModelError with what to do where there is none."""
    if reason := no_gpu_reason():
        raise ModelError(f"{reason}. Try: {DRIVER_LINE}")
    known = environment()["gpu"] or {"name": "an NVIDIA GPU", "driver": None}
    driver = known["driver"] or driver_version() or "unknown"
    try:
        gpu = read_gpu()
    except ModelError as error:  # cuda-bindings is not installed
        return f"{known['name']}, driver {driver}; no more is known: {error}"
    return (
        f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.multiprocessors} multiprocessors,"
        f" driver {driver}"
    )


def _try_runtime(name: str) -> str:
    """Whether a runtime loads, in which version, and what keeps it from working all the same."""
    reason = why_not(name)
    if not is_installed(name):
        return f"no: {reason}"
    version = runtime_version(name)
    return f"no: {version} loads, but {reason}" if reason else f"{_OK} ({version})"


class _NotBuilt(Exception):
    """A segmenter would build an engine, for minutes, which is not for us to do."""


def _refuse_to_build(*_: object) -> None:
    raise _NotBuilt("its engine is not built yet; the first run does it. Try: endostream build-engine")


def _try_segmenter(name: str) -> str:
    segmenter = load_segmenter(name, progress=_refuse_to_build)
    try:
        height, width = segmenter.info.input_hw
        return f"{_OK} ({segmenter.info.runtime}, {width} × {height})"
    finally:
        segmenter.close()
