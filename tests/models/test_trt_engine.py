"""Engines are built for real by TensorRT-RTX, found again, and never used when anything about them is not right."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from endostream.configs.errors import ConfigError, ModelError
from endostream.models import trt_engine
from endostream.models.trt_engine import EngineFile, EngineRequest, engine_for, load_engine, request_for
from endostream.models.trt_flavour import Flavour, load_flavour
from endostream.models.trt_gpu import GpuTraits
from endostream.models.trt_record import EngineRefused, read_record, record_path

from .tiny_onnx import tiny_network, write_tiny

RTX4090 = GpuTraits("NVIDIA GeForce RTX 4090", "8.9", 128, 384, 75497472, 102400, 101376, 65536, 512, False)


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return load_flavour("rtx")


@pytest.fixture
def request_sm89(tmp_path: Path, rtx: Flavour) -> EngineRequest:
    model = write_tiny(tmp_path / "tiny.onnx")
    return EngineRequest(model, "tiny", rtx, "fp32", ("sm89",), folder=tmp_path / "engines")


def no_build(*_: Any) -> bytes:
    raise AssertionError("built anew")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("target", ["sm86", "sm89", "sm120"])
def test_an_engine_is_built_for_a_gpu_that_is_not_there(
    tmp_path: Path, rtx: Flavour, target: str, precision: str
) -> None:
    model = write_tiny(tmp_path / "tiny.onnx", quantise="int8" if precision == "int8" else "")
    request = EngineRequest(model, "tiny", rtx, precision, (target,), folder=tmp_path)
    built = engine_for(request)
    assert (built.origin, built.refusal) == ("built", "")
    assert built.path.name.startswith(f"tiny-{precision}-rtx{rtx.version}-{target}-")
    assert built.path.stat().st_size == built.record["size_bytes"] > 1000
    told = {
        name: built.record[name] for name in ("flavour", "version", "targets", "gpu", "precision", "flags")
    }
    assert told == {
        "flavour": "rtx",
        "version": rtx.version,
        "targets": [target],
        "gpu": None,
        "precision": precision,
        "flags": {"strongly_typed": True, "tf32": False},
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("target", ["sm86", "sm89", "sm120"])
def test_the_network_that_ships_is_built(tmp_path: Path, rtx: Flavour, target: str, precision: str) -> None:
    built = engine_for(request_for("resunet-small", rtx, precision, targets=(target,), folder=tmp_path))
    assert built.origin == "built"
    assert built.record["size_bytes"] > 2_000_000


def test_one_engine_can_be_for_several_gpus_in_any_order(request_sm89: EngineRequest) -> None:
    built = engine_for(replace(request_sm89, targets=("sm120", "sm86", "sm120")))
    assert built.record["targets"] == ["sm86", "sm120"]
    again = engine_for(replace(request_sm89, targets=("sm86", "sm120")))
    assert (again.origin, again.path) == ("hit", built.path)


def test_a_second_build_is_a_cache_hit(request_sm89: EngineRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    built = engine_for(request_sm89)
    monkeypatch.setattr(trt_engine, "plan_bytes", no_build)
    found = engine_for(request_sm89)
    assert (found.origin, found.path, found.record) == ("hit", built.path, built.record)


def test_a_rebuild_can_be_asked_for(request_sm89: EngineRequest) -> None:
    first = engine_for(request_sm89)
    again = trt_engine.build_engine(request_sm89)
    assert (again.origin, again.path) == ("built", first.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda request: replace(request, onnx=write_tiny(request.onnx, seed=1)),
        lambda request: replace(request, precision="fp16"),
        lambda request: replace(request, targets=("sm86",)),
        lambda request: replace(request, tf32=True),
    ],
    ids=["onnx", "precision", "target", "flags"],
)
def test_a_change_of_what_goes_into_an_engine_makes_another(
    request_sm89: EngineRequest, change: Callable[[EngineRequest], EngineRequest]
) -> None:
    first = engine_for(request_sm89)
    before = first.path.read_bytes()
    other = engine_for(change(request_sm89))
    assert other.origin == "built"
    assert other.path != first.path
    assert first.path.read_bytes() == before


def test_another_version_of_tensorrt_does_not_take_the_engine_of_this_one(
    request_sm89: EngineRequest,
) -> None:
    first = engine_for(request_sm89)
    newer = replace(request_sm89, flavour=replace(request_sm89.flavour, version="1.8.0.1"))
    other = engine_for(newer)
    assert (other.origin, other.record["version"]) == ("built", "1.8.0.1")
    assert other.path != first.path


def test_a_change_of_our_own_conversion_makes_another(
    request_sm89: EngineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine_for(request_sm89)
    monkeypatch.setattr("endostream.models.trt_request._conversion_sum", lambda: "another")
    other = engine_for(request_sm89)
    assert (other.origin, other.path == first.path) == ("built", False)


def flip_a_byte(engine: EngineFile) -> None:
    content = bytearray(engine.path.read_bytes())
    content[len(content) // 2] ^= 1
    engine.path.write_bytes(content)


def truncate(engine: EngineFile) -> None:
    engine.path.write_bytes(engine.path.read_bytes()[:-100])


def empty(engine: EngineFile) -> None:
    engine.path.write_bytes(b"")


def edit_record(engine: EngineFile) -> None:
    path = record_path(engine.path)
    path.write_text(path.read_text().replace('"sm89"', '"sm86"'))


def break_record(engine: EngineFile) -> None:
    record_path(engine.path).write_text("{")


def drop_record(engine: EngineFile) -> None:
    record_path(engine.path).unlink()


def drop_engine(engine: EngineFile) -> None:
    engine.path.unlink()


def older_schema(engine: EngineFile) -> None:
    record_path(engine.path).write_text('{"schema": 0}')


SPOILT = [
    (flip_a_byte, r"sha256 \w{12}…, expected \w{12}… as its record says: edited"),
    (truncate, r"\d+ bytes, expected \d+ as its record says"),
    (empty, r"; 0 bytes, expected \d+ as its record says"),
    (edit_record, "edited: expected the content that its record_sha256 is of"),
    (break_record, "cannot be read"),
    (drop_record, "no record beside it, expected tiny-fp32-.*json"),
    (drop_engine, "cannot be read .No such file or directory"),
    (older_schema, "expected a record of schema 1"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_a_spoilt_engine_is_refused_and_built_anew(
    request_sm89: EngineRequest, spoil: Callable[[EngineFile], None], said: str
) -> None:
    first = engine_for(request_sm89)
    spoil(first)
    with pytest.raises(EngineRefused, match=said):
        load_engine(first, request_sm89.flavour, gpu=RTX4090)
    second = engine_for(request_sm89)
    assert (second.origin, second.path) == ("rebuilt", first.path)
    assert re.search(said, second.refusal)
    assert engine_for(request_sm89).origin == "hit"


def put_in_place_of(foreign: EngineFile, place: EngineFile) -> None:
    """Copy an engine and its record over another's, each in itself sound."""
    place.path.write_bytes(foreign.path.read_bytes())
    record_path(place.path).write_text(record_path(foreign.path).read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"targets": ("sm86",)}, "targets sm86, expected sm89"),
        ({"precision": "fp16"}, "precision fp16, expected fp32"),
        ({"tf32": True}, "flags strongly_typed True, tf32 True, expected strongly_typed True, tf32 False"),
    ],
)
def test_a_foreign_engine_under_the_name_of_another_is_refused_and_built_anew(
    request_sm89: EngineRequest, change: dict[str, Any], said: str
) -> None:
    ours, foreign = engine_for(request_sm89), engine_for(replace(request_sm89, **change))
    put_in_place_of(foreign, ours)
    second = engine_for(request_sm89)
    assert (second.origin, second.path) == ("rebuilt", ours.path)
    assert said in second.refusal
    assert read_record(ours.path)["targets"] == ["sm89"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "tensorrt"}, "flavour rtx, expected tensorrt"),
        ({"version": "1.8.0.1"}, "version .*, expected 1.8.0.1"),
    ],
)
def test_an_engine_of_another_flavour_or_version_is_not_loaded(
    request_sm89: EngineRequest, change: dict[str, str], said: str
) -> None:
    engine = engine_for(request_sm89)
    with pytest.raises(EngineRefused, match=said):
        load_engine(engine, replace(request_sm89.flavour, **change), gpu=RTX4090)


def test_an_engine_for_another_gpu_is_not_loaded(request_sm89: EngineRequest) -> None:
    engine = engine_for(request_sm89)
    ampere = replace(RTX4090, name="NVIDIA GeForce RTX 3050", compute_capability="8.6")
    with pytest.raises(EngineRefused, match=r"built for sm89, expected sm86 \(NVIDIA GeForce RTX 3050\)"):
        load_engine(engine, request_sm89.flavour, gpu=ampere)


def test_that_tensorrt_gives_none_for_an_engine_is_an_error_with_what_it_says(
    request_sm89: EngineRequest,
) -> None:
    class Runtime:
        def __init__(self, logger: Any) -> None:
            logger.log(request_sm89.flavour.module.ILogger.ERROR, "Magic tag does not match")

        def deserialize_cuda_engine(self, plan: bytes) -> None:
            return None

    class Module:
        ILogger = request_sm89.flavour.module.ILogger

    Module.Runtime = Runtime  # type: ignore[attr-defined]
    engine = engine_for(request_sm89)
    flavour = replace(request_sm89.flavour, module=Module)  # type: ignore[arg-type]
    with pytest.raises(EngineRefused, match="does not take it, it says: Magic tag does not match"):
        load_engine(engine, flavour, gpu=RTX4090)


def test_on_a_gpu_the_engine_built_ahead_for_it_is_used(request_sm89: EngineRequest) -> None:
    ahead = engine_for(replace(request_sm89, targets=("sm86", "sm89")))
    here = replace(request_sm89, targets=(), gpu=RTX4090)
    found = engine_for(here)
    assert (found.origin, found.path) == ("hit", ahead.path)


def test_on_a_gpu_an_engine_built_ahead_for_others_or_of_another_network_is_not_used(
    request_sm89: EngineRequest,
) -> None:
    engine_for(replace(request_sm89, targets=("sm86", "sm120")))
    engine_for(replace(request_sm89, onnx=write_tiny(request_sm89.onnx.with_name("o.onnx"), seed=2)))
    built = engine_for(replace(request_sm89, targets=(), gpu=RTX4090))
    assert built.origin == "built"
    assert built.record["gpu"]["name"] == "NVIDIA GeForce RTX 4090"
    assert built.record["targets"] == ["sm89"]


def test_another_model_of_gpu_gets_an_engine_of_its_own(request_sm89: EngineRequest) -> None:
    first = engine_for(replace(request_sm89, targets=(), gpu=RTX4090))
    smaller = replace(RTX4090, name="NVIDIA GeForce RTX 4060", multiprocessors=24)
    second = engine_for(replace(request_sm89, targets=(), gpu=smaller))
    assert (second.origin, second.path == first.path) == ("built", False)
    with pytest.raises(EngineRefused, match=r"multiprocessors 128.*expected .*multiprocessors 24"):
        load_engine(first, request_sm89.flavour, gpu=smaller)


def test_a_gpu_tensorrt_rtx_has_no_target_for_is_told_what_to_do(request_sm89: EngineRequest) -> None:
    h100 = replace(RTX4090, name="NVIDIA H100", compute_capability="9.0")
    with pytest.raises(ModelError, match=r"target: sm90; rtx .* builds for sm75, .*Try: --runtime tensorrt"):
        engine_for(replace(request_sm89, targets=(), gpu=h100))


def test_data_centre_tensorrt_builds_for_no_gpu_but_this_one(request_sm89: EngineRequest) -> None:
    flavour = replace(request_sm89.flavour, name="tensorrt")
    with pytest.raises(ConfigError, match="--target: sm89; tensorrt builds only for the GPU that is there"):
        engine_for(replace(request_sm89, flavour=flavour))


def test_a_file_that_is_no_onnx_is_refused_by_name(request_sm89: EngineRequest) -> None:
    request_sm89.onnx.write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"tiny.onnx; not an ONNX file"):
        engine_for(request_sm89)


def test_a_network_that_tensorrt_does_not_know_is_refused_with_what_it_says(
    request_sm89: EngineRequest,
) -> None:
    model = tiny_network()
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "Unheard", "com.example"
    onnx.save(model, request_sm89.onnx)
    with pytest.raises(ModelError, match=r"ONNX parser refused the network; it says: Unheard a_relu: "):
        engine_for(request_sm89)
    assert [path.suffix for path in request_sm89.folder.iterdir()] == [".lock"]  # type: ignore[union-attr]


def test_a_file_that_changes_while_its_engine_is_built_gives_none(request_sm89: EngineRequest) -> None:
    def replaced(phase: str, share: float) -> None:
        if share > 0.5:
            write_tiny(request_sm89.onnx, seed=1)

    with pytest.raises(ModelError, match=r"tiny.onnx; changed while its engine was being built"):
        engine_for(request_sm89, replaced)
    assert list(request_sm89.folder.glob("*.engine")) == []  # type: ignore[union-attr]


def test_progress_rises_to_most_of_the_whole_and_names_its_phases(request_sm89: EngineRequest) -> None:
    told: list[tuple[str, float]] = []
    engine_for(request_sm89, lambda phase, share: told.append((phase, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], 0.6 < shares[-1] <= 1) == (0.0, True)
    assert "Building engine" in {phase for phase, _ in told}


def test_an_interruption_while_building_ends_the_build_and_leaves_no_engine(
    request_sm89: EngineRequest,
) -> None:
    def interrupt(phase: str, share: float) -> None:
        if share > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_for(request_sm89, interrupt)
    assert [path.suffix for path in request_sm89.folder.iterdir()] == [".lock"]  # type: ignore[union-attr]


BUILDER = """
import sys
from pathlib import Path
from endostream.models.trt_engine import EngineRequest, engine_for
from endostream.models.trt_flavour import load_flavour

told = set()

def progress(phase, share):
    what = "waiting" if phase.startswith("waiting for") else "building" if share > 0.1 else ""
    if what and what not in told:
        told.add(what)
        print(what, flush=True)
        if what == "building":
            sys.stdin.readline()

request = EngineRequest(Path(sys.argv[1]), "tiny", load_flavour("rtx"), "fp32", ("sm89",), folder=Path(sys.argv[2]))
print("asking", flush=True)
print(engine_for(request, progress).origin, flush=True)
"""


def start_builder(request: EngineRequest) -> "subprocess.Popen[str]":
    """A process that asks for the engine, says how far it is, and half-way through a build waits for a line."""
    command = [sys.executable, "-c", BUILDER, str(request.onnx), str(request.folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_build_at_once_end_with_the_same_engine(request_sm89: EngineRequest) -> None:
    with start_builder(request_sm89) as first:
        assert [first.stdout.readline() for _ in range(2)] == ["asking\n", "building\n"]  # type: ignore[union-attr]
        with start_builder(request_sm89) as second:
            assert [second.stdout.readline() for _ in range(2)] == ["asking\n", "waiting\n"]  # type: ignore[union-attr]
            assert first.communicate("\n", timeout=60)[0] == "built\n"
            assert second.communicate(timeout=60)[0] == "hit\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert engine_for(request_sm89).origin == "hit"


def test_a_process_killed_while_it_builds_leaves_nothing_that_counts_as_an_engine(
    request_sm89: EngineRequest,
) -> None:
    with start_builder(request_sm89) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["asking\n", "building\n"]  # type: ignore[union-attr]
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list(request_sm89.folder.glob("*.engine")) == []  # type: ignore[union-attr]
    assert engine_for(request_sm89).origin == "built"


def test_the_record_says_which_file_it_was_made_from_and_when(request_sm89: EngineRequest) -> None:
    built = engine_for(request_sm89)
    record = json.loads(record_path(built.path).read_text())
    assert record["engine"] == built.path.name
    assert record["onnx"] == "tiny.onnx"
    assert len(record["onnx_sha256"]) == 64
    assert record["build_s"] > 0
    assert record["built_at"].endswith("+00:00")


def test_a_folder_that_cannot_be_written_is_told(request_sm89: EngineRequest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written .Not a directory.*Try: --out DIR"):
        engine_for(replace(request_sm89, folder=tmp_path / "file" / "engines"))
