"""Engines: found in the cache or built, and loaded only when everything about them is as it should be.

An engine is kept under a key of all it was made of: the ONNX file's sum, our conversion of it, TensorRT's flavour and
full version, the GPU it is for, precision and flags. Whatever of these changes, another engine is built. What lies
under the key but is damaged, edited or foreign is refused, with what was expected, and built again.

Separate from the segmenter that runs one (``trt_segmenter.py``) and from the builder's calls (``trt_builder.py``).
"""

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from endostream.configs.errors import ModelError

from .trt_builder import BuildLog, BuildPlan, Progress, make_logger, plan_bytes
from .trt_flavour import Flavour
from .trt_gpu import GpuTraits, read_gpu
from .trt_record import (
    EngineFile,
    EngineRefused,
    read_record,
    record_path,
    require_material,
    require_plan,
    write_engine,
)
from .trt_request import EngineRequest, engine_path, material_of, request_for, timings_path
from .weights_files import sha256_of

logger = logging.getLogger(__name__)

WAITING = "waiting for another process that builds it"
LOOK_EVERY_S = 0.25

__all__ = [
    "EngineFile",
    "EngineRefused",
    "EngineRequest",
    "Progress",
    "build_engine",
    "engine_for",
    "load_engine",
    "request_for",
]


def engine_for(
    request: EngineRequest, progress: Progress | None = None, *, rebuild: bool = False
) -> EngineFile:
    """The engine, from the cache or built; two processes that ask at once get the same one.

    Args:
        request: what is wanted.
        progress: told while it is being built.
        rebuild: build it even if there is one.

    Raises:
        ConfigError: a target that cannot be, or a bad precision.
        ModelError: no GPU and no target, a target the flavour has not, a network that cannot be built, or a folder
            that cannot be written.
    """
    material = material_of(request)
    path = engine_path(request, material)
    found, refusal = (None, "") if rebuild else _found(path, request, material)
    if found is not None:
        return found
    with _only_builder(path, progress):
        if not rebuild:  # another process may have built it while we waited
            found, refusal = _found(path, request, material)
        if found is None and refusal:
            logger.warning("%s; it is built again", refusal)
        return found or _built(request, path, material, progress, refusal)


def build_engine(request: EngineRequest, progress: Progress | None = None) -> EngineFile:
    """Build the engine, whether there is one or not; as ``engine_for``."""
    return engine_for(request, progress, rebuild=True)


def _built(
    request: EngineRequest, path: Path, material: Mapping[str, Any], progress: Progress | None, refusal: str
) -> EngineFile:
    began_s = time.monotonic()
    graph = graph_for(request.onnx, request.precision)
    order = BuildPlan(
        graph, request.flavour, tuple(material["targets"]), request.tf32, timings_path(request, material)
    )
    plan = plan_bytes(order, progress)
    if sha256_of(request.onnx) != material["onnx_sha256"]:
        raise ModelError(f"model: {request.onnx}; changed while its engine was being built. Try: once more")
    record = {
        **material,
        "preset": request.preset,
        "onnx": request.onnx.name,
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "build_s": round(time.monotonic() - began_s, 3),
        "endostream": metadata.version("endostream"),
    }
    written = write_engine(path, plan, record)
    return EngineFile(path, written.record, "rebuilt" if refusal else "built", refusal)


def graph_for(onnx_file: Path, precision: str) -> bytes:
    """The very graph that TensorRT is given for a network file at a precision; ONNX Runtime can run it too.

    Raises:
        ConfigError, ModelError: no such precision, or the file is not one of ours or does not fit it.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError("onnx: not installed. Try: pip install onnx") from error
    from .trt_graph import engine_graph
    from .trt_precision import at_precision

    try:
        model = onnx.load(onnx_file)
    except Exception as error:  # protobuf's errors share no public class
        raise ModelError(f"model: {onnx_file}; not an ONNX file ({error!s:.160})") from error
    graph: bytes = engine_graph(at_precision(model, precision)).SerializeToString()
    return graph


def load_engine(
    engine_file: EngineFile, flavour: Flavour, logger: Any = None, gpu: GpuTraits | None = None
) -> Any:
    """Check an engine once more and hand it to TensorRT; returns its ``ICudaEngine``.

    Args:
        engine_file: from ``engine_for``, or one with a path alone.
        flavour: that is to run it.
        logger: TensorRT's; None for one that keeps errors for the message.
        gpu: that is to run it; None: GPU 0 of this machine.

    Raises:
        EngineRefused: damaged, edited, of another flavour, version or GPU, or TensorRT does not take it.
        ModelError: there is no GPU.
    """
    path = engine_file.path
    record = read_record(path)
    require_material(path, record, {"flavour": flavour.name, "version": flavour.version, "engine": path.name})
    plan = require_plan(path, record)
    traits = gpu or read_gpu()
    _require_gpu(path, record, traits)
    log = BuildLog()
    runtime = flavour.module.Runtime(logger if logger is not None else make_logger(flavour.module, log))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = " ".join(" ".join(log.errors).split())[:300] or "nothing more; see its log"
        raise EngineRefused(f"engine: {path}; {flavour.label} does not take it, it says: {said}")
    return engine


def _require_gpu(path: Path, record: Mapping[str, Any], traits: GpuTraits) -> None:
    if traits.target not in record["targets"]:
        built = ",".join(record["targets"])
        raise EngineRefused(f"engine: {path}; built for {built}, expected {traits.target} ({traits.name})")
    if record["gpu"] is not None:
        require_material(path, record, {"gpu": traits.as_json()})


def _found(path: Path, request: EngineRequest, material: dict[str, Any]) -> tuple[EngineFile | None, str]:
    """The sound engine under ``path``, or one built ahead that fits; else why what is there was refused."""
    refusal = ""
    if path.exists() or record_path(path).exists():
        try:
            return _sound(path, material), ""
        except EngineRefused as error:
            refusal = str(error)
    if material["gpu"] is not None and request.flavour.ahead_targets():
        for record in sorted(path.parent.glob("*.json")):
            ahead = _built_ahead(record.with_suffix(".engine"), material)
            if ahead is not None:
                return ahead, refusal
    return None, refusal


def _sound(path: Path, wanted: Mapping[str, Any]) -> EngineFile:
    """The engine in ``path``, checked against what is wanted. Raises EngineRefused."""
    record = read_record(path)
    require_material(path, record, {**wanted, "engine": path.name})
    require_plan(path, record)
    return EngineFile(path, record)


def _built_ahead(path: Path, material: Mapping[str, Any]) -> EngineFile | None:
    """The engine in ``path`` if it was built without a GPU for several kinds, ours among them."""
    try:
        record = read_record(path)
        target = material["targets"][0]
        if record.get("gpu") is not None or target not in record.get("targets", ()):
            return None
        return _sound(path, {**material, "gpu": None, "targets": record["targets"]})
    except EngineRefused:
        return None


@contextmanager
def _only_builder(path: Path, progress: Progress | None) -> Iterator[None]:
    """Hold the lock on building ``path``; the kernel lets it go when the holder dies. Waiting is told as progress."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise ModelError(
            f"engines: {path.parent}; cannot be written ({error.strerror}). Try: --out DIR, or XDG_CACHE_HOME"
        ) from error
    with lock:
        while not _is_locked(lock):
            if progress is not None:
                progress(WAITING, 0.0)
            time.sleep(LOOK_EVERY_S)
        yield


def _is_locked(lock: IO[str]) -> bool:
    """Take the lock if it is free; whether it was."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
