"""``--runtime`` from the command line to exit code and report.

The stages run as threads, so that a test can say what is installed on the machine and whether it has a GPU.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endostream.models import runtimes
from endostream.pipeline.cli import run_command

NO_DRIVER = "no NVIDIA driver (libcuda.so.1 cannot be loaded)"


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.freeze", lambda: None)


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Plays the phantom for a moment: exit code and report."""

    def play(*arguments: str) -> tuple[int, dict[str, Any]]:
        report = tmp_path / "r.json"
        settings = ("supervisor.launcher=threads", "phantom.duration_s=0.2", "phantom.width=320")
        command = ["replay", "phantom:", "--quiet", "--report", str(report), *arguments]
        for setting in settings:
            command += ["--set", setting]
        code = run_command(command)
        return code, json.loads(report.read_text()) if report.exists() else {}

    return play


Replay = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("runtime", "installed", "says"),
    [
        ("tensorrt", False, "tensorrt is not installed. Try: pip install 'endostream[tensorrt]'"),
        ("rtx", False, "tensorrt_rtx is not installed. Try: pip install 'endostream[tensorrt-rtx]'"),
        ("rtx", True, f"{NO_DRIVER}. Try: sudo ubuntu-drivers install"),
        ("tensorrt", True, f"{NO_DRIVER}. Try: sudo ubuntu-drivers install"),
        ("onnxruntime-cuda", False, "Try: pip install 'endostream[onnxruntime-cuda]'"),
        ("openvino", False, "openvino is not installed. Try: pip install openvino"),
    ],
)
def test_a_runtime_or_gpu_that_is_not_there_is_exit_code_4_with_the_line_to_install(
    replay: Replay,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    runtime: str,
    installed: bool,
    says: str,
) -> None:
    monkeypatch.setattr(runtimes, "_is_installed", lambda package: installed)
    monkeypatch.setattr(runtimes, "no_gpu_reason", lambda: NO_DRIVER)
    code, report = replay("--runtime", runtime)
    assert code == 4
    assert (report["status"], report["exit_code"]) == ("failed", 4)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"runtime {runtime}: ")
    assert says in line


def test_auto_says_in_the_report_what_it_took_and_why_not_the_others(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "no_gpu_reason", lambda: NO_DRIVER)
    monkeypatch.setattr(runtimes, "_is_installed", lambda package: package != "tensorrt")
    code, report = replay()
    assert code == 0
    assert report["runtime"].startswith("openvino ")
    assert list(report["passed_over"]) == ["tensorrt", "rtx", "onnxruntime-cuda"]
    assert NO_DRIVER in report["passed_over"]["rtx"]


def test_a_runtime_asked_for_is_the_one_that_runs(replay: Replay) -> None:
    code, report = replay("--runtime", "onnxruntime")
    assert (code, report["runtime"].split()[0], report["passed_over"]) == (0, "onnxruntime", {})


@pytest.mark.parametrize("command", ["replay", "live", "demo"])
def test_an_unknown_runtime_is_a_mistake_of_usage(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"replay": ["phantom:"], "live": ["pipe:true"], "demo": ["--out", str(tmp_path)]}[command]
    assert run_command([command, *source, "--runtime", "caffe"]) == 2
    assert "runtime: 'caffe'; expected auto, tensorrt, rtx" in capsys.readouterr().err


def test_a_segmenter_without_a_choice_says_so(replay: Replay, caplog: pytest.LogCaptureFixture) -> None:
    code, _ = replay("--segmenter", "fcm", "--runtime", "openvino")
    assert code == 2
    assert "runtime: openvino; segmenter fcm has no runtime to choose" in caplog.text
