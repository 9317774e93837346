"""The doctor tells what works, and what does not with the reason; it never fails itself."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from endostream.models import segmenter
from endostream.models.runtimes import RUNTIMES
from endostream.models.trt_gpu import GpuTraits
from endostream.pipeline import doctor
from endostream.pipeline.cli import run_command
from endostream.pipeline.doctor import diagnosis, diagnosis_text

from .window.x_display import XDisplay


def test_a_segmenter_that_cannot_load_stays_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "SEGMENTERS", {})
    monkeypatch.setitem(segmenter.SEGMENTERS, "absent", "no_such_package.x:Y")
    monkeypatch.setattr("endostream.pipeline.doctor.SEGMENTERS", segmenter.SEGMENTERS)
    found = diagnosis()
    assert list(found["segmenters"]) == ["absent"]
    assert found["segmenters"]["absent"].startswith("no: segmenter absent: cannot be loaded here")
    assert "\n  absent: no: " in diagnosis_text(found)


def test_the_cache_is_told_with_its_size_and_how_to_clear_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_segmenters: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "endostream"
    assert diagnosis_text(diagnosis()).endswith(f"\ncache\n  {folder}: empty\n")
    for name, size in (
        ("engines/a.engine", 3_000_000),
        ("engines/b.engine", 500_000),
        ("openvino/x/y.blob", 200_000),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    found = diagnosis()
    assert found["cache"] == {"folder": str(folder), "bytes": {"engines": 3_500_000, "openvino": 200_000}}
    assert diagnosis_text(found).splitlines()[-1] == (
        f"  {folder}: 3.7 MB (engines 3.5 MB, openvino 0.2 MB), made again when missed. To clear it: rm -r {folder}"
    )


def test_shared_memory_and_sockets_are_tried() -> None:
    checks = diagnosis()["checks"]
    assert checks["sockets (ipc)"] == "works"
    assert checks["shared memory (memfd)"] == "works"


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    assert diagnosis()["checks"]["window"].startswith(
        "no: sink window: DISPLAY='', it is not set; expected a screen"
    )


def test_a_window_is_tried_on_the_display_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with XDisplay() as display:
        monkeypatch.setenv("DISPLAY", display.name)
        assert diagnosis()["checks"]["window"] == "works"
    assert diagnosis()["checks"]["window"].startswith(f"no: sink window: DISPLAY='{display.name}', ")


NO_DRIVER = "no NVIDIA driver (libcuda.so.1 cannot be loaded)"


@pytest.fixture
def no_segmenters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endostream.pipeline.doctor.SEGMENTERS", {})


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, "works"), (1, "no: not permitted; capture and overlay run in the ordinary class")],
)
def test_the_real_time_class_is_tried_and_how_to_permit_it_is_said(
    monkeypatch: pytest.MonkeyPatch, code: int, outcome: str
) -> None:
    ran: list[str] = []

    def run(command: list[str], **_: Any) -> Any:
        ran.append(command[-1])
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr("endostream.pipeline.doctor.subprocess.run", run)
    said = doctor._outcome(doctor._try_realtime)
    assert said.startswith(outcome)
    assert ("LimitRTPRIO=1" in said, "rtprio 1" in said) == (bool(code), bool(code))
    assert "SCHED_RR" in ran[0]


@pytest.mark.usefixtures("no_segmenters")
def test_each_runtime_is_told_with_its_version_or_the_line_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def there(package: str) -> bool:
        return package in ("tensorrt_rtx", "cuda.bindings", "openvino")

    monkeypatch.setattr("endostream.models.runtimes._is_installed", there)
    monkeypatch.setattr("endostream.models.runtimes.no_gpu_reason", lambda: NO_DRIVER)
    monkeypatch.setattr("endostream.pipeline.doctor.no_gpu_reason", lambda: NO_DRIVER)
    monkeypatch.setattr("endostream.pipeline.doctor.runtime_version", lambda name: f"{name} 1.2")
    found = diagnosis()
    assert found["gpu"] == f"no: {NO_DRIVER}. Try: sudo ubuntu-drivers install (docs/gpu.md)"
    told = found["runtimes"]
    assert list(told) == list(RUNTIMES)
    assert told["tensorrt"] == "no: tensorrt is not installed. Try: pip install 'endostream[tensorrt]'"
    assert told["rtx"].startswith(f"no: rtx 1.2 loads, but {NO_DRIVER}. Try: ")
    assert told["openvino"] == "works (openvino 1.2)"
    assert told["keras"].endswith("Try: pip install 'endostream[tensorflow]'")
    assert f"  gpu: no: {NO_DRIVER}" in diagnosis_text(found)
    assert "\n  openvino: works (openvino 1.2)\n" in diagnosis_text(found)


def test_a_gpu_is_told_with_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GpuTraits("NVIDIA GeForce RTX 4090", "8.9", 128, 384, 1, 1, 1, 1, 512, False)
    monkeypatch.setattr(doctor, "no_gpu_reason", lambda: "")
    monkeypatch.setattr(doctor, "environment", lambda: {"gpu": {"name": gpu.name, "driver": "580.95.05"}})
    monkeypatch.setattr(doctor, "read_gpu", lambda: gpu)
    expected = "NVIDIA GeForce RTX 4090, compute capability 8.9, 128 multiprocessors, driver 580.95.05"
    assert doctor._try_gpu() == expected


def test_a_runtime_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("libnvinfer.so.10:\n cannot open shared object file")

    monkeypatch.setattr("endostream.models.runtimes._is_installed", lambda package: True)
    monkeypatch.setattr("endostream.models.runtimes.no_gpu_reason", lambda: "")
    monkeypatch.setattr("endostream.models.runtimes.importlib.import_module", broken)
    said = doctor._outcome(lambda: doctor._try_runtime("tensorrt"))
    assert said == "no: tensorrt cannot be loaded here (libnvinfer.so.10: cannot open shared object file)"


def test_no_engine_is_built_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(name: str, progress: Any) -> Any:
        progress("building engine", 0)

    monkeypatch.setattr(doctor, "load_segmenter", opened)
    said = doctor._outcome(lambda: doctor._try_segmenter("resunet-small"))
    assert said == "no: its engine is not built yet; the first run does it. Try: endostream build-engine"


def test_the_command_prints_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"environment", "checks", "segmenters", "devices", "runtimes", "gpu", "cache"}
    assert "fcm" in found["segmenters"]
