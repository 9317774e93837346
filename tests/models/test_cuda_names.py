"""What the GPU code calls exists in the real packages and takes those arguments, as far as no GPU is needed to see.

The runtime's own tests run it on a stand-in. Here that stand-in is held against ``cuda.bindings`` (signature by
signature) and ``tensorrt_rtx`` (the signatures in its docstrings), and a list made from our source shows that nothing
is called that the real ones do not have.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from endostream.models import cuda_device, cuda_memory, cuda_pass, keep_warm, trt_runner
from endostream.models.cuda_device import Cuda, CudaFailed
from endostream.models.trt_builder import BuildLog, make_logger
from endostream.models.trt_flavour import load_flavour

from .cuda_stand_in import StandIn, StandInContext, StandInEngine

SOURCES = (cuda_device, cuda_memory, cuda_pass, keep_warm, trt_runner)
RUNTIME: Any = pytest.importorskip("cuda.bindings.runtime")
TENSORRT = load_flavour("rtx").module


def names_used() -> set[str]:
    """Every name of CUDA's runtime in our source: calls by name, and constants."""
    found: set[str] = set()
    for module in SOURCES:
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(r"^cuda[A-Z]\w*$", node.value))
            if isinstance(node, ast.Attribute) and node.attr.startswith("cuda"):
                found.add(node.attr)
    return found


FUNCTIONS = sorted(
    name for name in names_used() if callable(getattr(StandIn, name, None)) and "Kind" not in name
)
FUNCTIONS = [name for name in FUNCTIONS if not isinstance(getattr(StandIn, name), type)]


def test_the_list_is_that_of_the_source() -> None:
    assert {"cudaMemcpyAsync", "cudaGraphLaunch", "cudaEventSynchronize", "cudaMemsetAsync"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 25
    missing = [name for name in names_used() if not hasattr(RUNTIME, name) and not _is_member(name)]
    assert missing == []


def _is_member(name: str) -> bool:
    """Whether ``name`` is a member of one of CUDA's enumerations that we use."""
    kinds = ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr")
    return any(name in getattr(RUNTIME, kind).__members__ for kind in kinds)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_the_arguments_that_the_stand_in_takes(name: str) -> None:
    real = list(inspect.signature(getattr(RUNTIME, name)).parameters)
    ours = list(inspect.signature(getattr(StandIn, name)).parameters)[1:]
    assert len(real) == len(ours)


@pytest.mark.parametrize("kind", ["cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"])
def test_the_stand_ins_constants_have_the_real_values(kind: str) -> None:
    real = getattr(RUNTIME, kind).__members__
    assert {name: int(real[name]) for name in getattr(StandIn, kind).__members__} == {
        name: int(value) for name, value in getattr(StandIn, kind).__members__.items()
    }


def test_flags_and_errors_have_the_real_values() -> None:
    for name in (
        "cudaHostAllocDefault",
        "cudaStreamNonBlocking",
        "cudaEventBlockingSync",
        "cudaEventDisableTiming",
    ):
        assert getattr(RUNTIME, name) == getattr(StandIn, name)
    assert int(RUNTIME.cudaError_t.cudaErrorNotReady) == cuda_device.NOT_READY


def test_the_real_bindings_report_an_error_as_we_read_it() -> None:
    """Without a driver every call fails; with one, an impossible allocation does."""
    with pytest.raises(CudaFailed, match=r"^cudaMalloc: cudaError\w+ \(.+\)$"):
        Cuda().call("cudaMalloc", 1 << 60)


def test_a_handle_is_made_a_number_as_tensorrt_wants_it() -> None:
    assert int(RUNTIME.cudaStream_t(0)) == 0


def documented(owner: Any, name: str) -> list[list[str]]:
    """Parameters, without self, of each signature in the docstring of a function of pybind11's."""
    text = getattr(owner, name).__doc__ or ""
    calls = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", text, re.MULTILINE)
    names = [re.findall(r"(\w+): ", re.sub(r"\[[^\]]*\]|<[^>]*>", "", call)) for call in calls]
    return [[parameter for parameter in each if parameter != "self"] for each in names]


@pytest.mark.parametrize(
    ("owner", "name", "arguments"),
    [
        ("Runtime", "__init__", ["logger"]),
        ("Runtime", "deserialize_cuda_engine", ["serialized_engine"]),
        ("ICudaEngine", "create_execution_context", ["runtime_config"]),
        ("ICudaEngine", "create_runtime_config", []),
        ("ICudaEngine", "get_tensor_name", ["index"]),
        ("ICudaEngine", "get_tensor_shape", ["name"]),
        ("ICudaEngine", "get_tensor_dtype", ["name"]),
        ("IRuntimeConfig", "create_runtime_cache", []),
        ("IRuntimeConfig", "set_runtime_cache", ["cache"]),
        ("IRuntimeCache", "deserialize", ["blob"]),
        ("IRuntimeCache", "serialize", []),
        ("IExecutionContext", "set_tensor_address", ["name", "memory"]),
        ("IExecutionContext", "execute_async_v3", ["stream_handle"]),
        ("IExecutionContext", "is_stream_capturable", ["stream"]),
    ],
)
def test_tensorrt_takes_the_arguments_that_it_is_given(owner: str, name: str, arguments: list[str]) -> None:
    assert arguments in documented(getattr(TENSORRT, owner), name)


@pytest.mark.parametrize(
    ("stand_in", "real"), [(StandInContext, "IExecutionContext"), (StandInEngine, "ICudaEngine")]
)
def test_the_stand_ins_of_tensorrt_have_only_what_it_has(stand_in: type, real: str) -> None:
    ours = {name for name in vars(stand_in) if not name.startswith("_") and name not in ("shapes", "sizes")}
    assert ours - set(dir(getattr(TENSORRT, real))) == set()


def test_what_the_runner_asks_of_an_engine_and_a_context_is_there() -> None:
    source = Path(str(trt_runner.__file__)).read_text(encoding="utf-8")
    asked = set(re.findall(r"\b(?:engine|_engine)\.(\w+)", source)) | set(
        re.findall(r'getattr\(self\._engine, "(\w+)"', source)
    )
    asked_of_context = set(re.findall(r"\b(?:context|_context)\.(\w+)", source)) | set(
        re.findall(r'getattr\(self\._context, "(\w+)"', source)
    )
    assert asked and asked <= set(dir(TENSORRT.ICudaEngine))
    assert asked_of_context and asked_of_context <= set(dir(TENSORRT.IExecutionContext))


def test_its_types_of_tensors_have_a_size() -> None:
    kinds = TENSORRT.DataType
    assert [kind.itemsize for kind in (kinds.UINT8, kinds.BOOL, kinds.FLOAT)] == [1, 1, 4]


def test_a_shape_is_a_sequence_of_numbers() -> None:
    assert tuple(TENSORRT.Dims([1, 320, 320, 3])) == (1, 320, 320, 3)


def test_its_runtime_cannot_be_had_without_a_gpu_and_says_so_or_works() -> None:
    """What the segmenter does first with the real module: a logger of ours in a runtime of its own."""
    log = BuildLog()
    runtime = TENSORRT.Runtime(make_logger(TENSORRT, log))
    assert runtime.deserialize_cuda_engine(b"no engine") is None
    assert log.errors
