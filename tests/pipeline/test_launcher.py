"""Stages brought to life as processes: what becomes of one that is dead before it hears anything."""

import subprocess
from typing import Any

import pytest

from endostream.pipeline.host import RunSpec
from endostream.pipeline.launcher import ProcessLauncher
from endostream.pipeline.ring import Block

from .core_fixtures import config_of


class _DeadAtOnce(subprocess.Popen[bytes]):
    """A process that has been killed before anybody could send it a word."""

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(["sh", "-c", "kill -KILL $$"], **options)
        self.wait(30)


def test_a_stage_that_is_killed_at_its_birth_is_told_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("endostream.pipeline.launcher.subprocess.Popen", _DeadAtOnce)
    spec = RunSpec("fake://", "every-frame", config_of().model_dump(), ("a.avi",))
    block = Block.create(4096, "test")
    handle, control = ProcessLauncher("fake://").start("record", spec, block, 0, 0)
    try:
        assert handle.exit_code() == -9
    finally:
        control.close()
        block.close()
