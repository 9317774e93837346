"""The doctor tells what works, and what does not with the reason; it never fails itself."""

import json

import pytest

from endostream.models import segmenter
from endostream.pipeline.cli import run_command
from endostream.pipeline.doctor import diagnosis, diagnosis_text


def test_a_segmenter_that_cannot_load_stays_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "SEGMENTERS", {})
    monkeypatch.setitem(segmenter.SEGMENTERS, "absent", "no_such_package.x:Y")
    monkeypatch.setattr("endostream.pipeline.doctor.SEGMENTERS", segmenter.SEGMENTERS)
    found = diagnosis()
    assert list(found["segmenters"]) == ["absent"]
    assert found["segmenters"]["absent"].startswith("no: segmenter absent: cannot be loaded here")
    assert "\n  absent: no: " in diagnosis_text(found)


def test_shared_memory_and_sockets_are_tried() -> None:
    checks = diagnosis()["checks"]
    assert checks["sockets (ipc)"] == "works"
    assert checks["shared memory (memfd)"] == "works"


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert diagnosis()["checks"]["window"].startswith("no: DISPLAY is not set")


def test_the_command_prints_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"environment", "checks", "segmenters", "devices", "cuda_driver"}
    assert "fcm" in found["segmenters"]
