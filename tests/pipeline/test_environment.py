"""The environment: what the report must name, and that nothing heavy is imported to name it."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from endostream.pipeline import environment as module
from endostream.pipeline.environment import commit, environment


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ("git", *identity, *arguments), cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_it_names_the_machine_and_the_software_and_is_json() -> None:
    told = json.loads(json.dumps(environment()))
    assert list(told)[:5] == ["cpu", "cores", "gpu", "versions", "commit"]
    assert told["cpu"] and told["cores"] >= 1 and told["memory_mib"] > 0
    assert told["versions"]["av"] == metadata.version("av")
    assert told["versions"]["python"].startswith("3.")


def test_it_imports_none_of_the_heavy_packages() -> None:
    heavy = {"cv2", "av", "numba", "numpy", "tensorflow", "tensorrt", "openvino"}
    code = (
        f"import sys; from {module.__name__} import environment as e; e(); print({heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_a_package_that_is_not_installed_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package",))
    assert environment()["versions"]["no-such-package"] is None


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None


def test_a_damaged_checkout_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert commit(tmp_path) is None


def test_the_commit_of_a_checkout_says_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    git(tmp_path, "tag", "v1")
    sha = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == sha
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{sha}+dirty"


def test_the_gpu_is_read_from_the_driver_without_asking_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 55\n")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Tue\n"
    )
    monkeypatch.setattr(module, "NVIDIA_PROC", tmp_path)
    assert environment()["gpu"] == {"name": "NVIDIA H100 80GB HBM3", "driver": "550.54.15"}


def test_no_gpu_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NVIDIA_PROC", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment()["gpu"] is None
