"""Each cell of the fault matrix on a small video, with real processes: what is restarted, what is said, what adds up.

No times here: ``endostream faults`` measures them. What runs always has one cell of each kind; the rest is slow.
"""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.load import load_config
from endostream.pipeline import app
from endostream.pipeline.frame import FrameKey, ImageBgr
from endostream.pipeline.reliability import fault_run
from endostream.pipeline.reliability.fault_cells import Cell, all_cells
from endostream.pipeline.reliability.fault_run import Injector, play_cell
from endostream.pipeline.reliability.faults import FaultsRequest, faults_command
from endostream.pipeline.request import RunRequest
from endostream.pipeline.sink import parse_sink
from endostream.pipeline.sinks.png_sink import snapshot_name
from endostream.pipeline.source import open_source

from ..end_to_end import HERE, QUICK, small_video

SETTINGS = (
    "replay.mode=live",
    "replay.loop=0",
    f"infer.segmenter={QUICK}",
    "replay.ready_wait_s=60",
)
Expected = tuple[int, str]
"""Restarts of the stage, and what the run says of the fault; "" where it has nothing to say."""
EITHER = -1
"""Where its memory runs out is chance: in drawing, then the raw picture is shown, or outside, then it starts afresh."""
EXPECTED: dict[str, Expected] = {
    "preprocess kill": (1, "preprocess: killed by SIGKILL"),
    "preprocess stop": (1, "preprocess: no sign of life for 1 s|preprocess: hung for 1 s"),
    "preprocess exception": (1, "preprocess: ChaosError: on command (3 in a row)"),
    "preprocess memory": (1, "MemoryError: Unable to allocate"),
    "preprocess memory:own-limit": (1, "more than 512 (supervisor.memory_limit_mib)"),
    "preprocess slow": (0, ""),
    "preprocess garbage:random-bytes": (0, ""),
    "preprocess garbage:bad-header": (0, "infer: "),
    "infer kill": (1, "infer: killed by SIGKILL"),
    "infer stop": (1, "infer: no sign of life for 1 s|infer: hung for 1 s"),
    "infer exception": (1, "infer: ChaosError: on command (3 in a row)"),
    "infer memory": (1, "MemoryError: Unable to allocate"),
    "infer memory:own-limit": (1, "more than 512 (supervisor.memory_limit_mib)"),
    "infer slow": (0, ""),
    "infer garbage:wrong-shape": (1, "mask: bool (7, 5); expected bool (320, 320) (3 in a row)"),
    "infer garbage:not-a-number": (1, "prob: not finite; expected [0, 1] (3 in a row)"),
    "infer garbage:all-ones": (0, ""),
    "infer garbage:random-bytes": (0, ""),
    "infer garbage:bad-header": (0, "overlay: "),
    "overlay kill": (1, "overlay: killed by SIGKILL"),
    "overlay stop": (1, "overlay: no sign of life for 0.5 s"),
    "overlay exception": (1, "overlay: ChaosError: on command"),
    "overlay memory": (EITHER, "overlay: "),
    "overlay slow": (0, ""),
    "overlay garbage:scribble": (0, "drawing failed: ChaosError: on command; the raw picture is shown"),
    "source kill": (1, "capture: killed by SIGKILL"),
    "source stop": (1, "capture: no sign of life for 1 s"),
    "source exception": (1, "capture: RuntimeError: decoder: on command"),
    "source memory": (1, "RuntimeError: decoder: Unable to allocate"),
    "source slow": (0, ""),
    "source garbage:noise": (0, ""),
    "source garbage:silence": (0, ""),
    "source garbage:wrong-size": (0, ""),
    "recorder kill": (1, "record: killed by SIGKILL"),
    "recorder stop": (1, "record: no sign of life for 2 s"),
    "recorder exception": (0, "record: ChaosError: on command"),
    "recorder memory": (0, "record: MemoryError: Unable to allocate"),
    "recorder slow": (0, ""),
    "recorder disk-full": (0, "File too large"),
}
ALWAYS = {
    "preprocess kill",
    "infer memory:own-limit",
    "infer garbage:bad-header",
    "overlay stop",
    "overlay garbage:scribble",
    "source exception",
    "recorder disk-full",
}
CELLS = [
    pytest.param(cell, id=cell.name, marks=[] if cell.name in ALWAYS else [pytest.mark.slow])
    for cell in all_cells()
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setattr(fault_run, "SETTLED_FRAMES", 10)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_video(tmp_path_factory.mktemp("source"))


def test_every_cell_says_what_must_come_of_it() -> None:
    assert [cell.name for cell in all_cells()] == list(EXPECTED)


@pytest.mark.parametrize("cell", CELLS)
def test_a_fault_is_survived_told_and_accounted_for(cell: Cell, video: Path) -> None:
    restarts, cause = EXPECTED[cell.name]
    if cell.order and restarts == 1:  # on a crowded machine a second may be too short to die of it
        cell = replace(cell, lasts_s=60.0)
    figures = play_cell(cell, str(video), load_config(None, [*SETTINGS, *cell.settings]).config)
    assert figures.restarts.get(cell.process, 0) in ((0, 1) if restarts == EITHER else (restarts,))
    assert figures.ledger_closed, figures
    assert figures.exit_code == cell.exit_code
    assert figures.again_s is not None, figures
    assert not cause or any(words in line for words in cause.split("|") for line in figures.causes), figures
    if cell.variant == "silence":
        assert figures.no_signal > 0


def test_the_command_runs_the_chosen_cells_and_publishes_them(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, report = tmp_path / "page.md", tmp_path / "report.json"
    page.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    request = FaultsRequest(
        source=str(video),
        stages=("infer",),
        faults=("kill",),
        settings=SETTINGS[2:],
        report=report,
        pages=(page,),
        json=True,
    )
    code = faults_command(request)
    said = json.loads(report.read_text())
    assert said == json.loads(capsys.readouterr().out)
    assert code == (0 if said["met"] else 5)
    assert [(cell["stage"], cell["fault"], cell["restarts"]) for cell in said["cells"]] == [
        ("infer", "kill", {"infer": 1})
    ]
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "| | preprocess | infer | overlay | source | recorder |" in lines


def test_where_drawing_breaks_off_the_picture_shown_and_recorded_is_the_one_that_was_captured(
    video: Path, tmp_path: Path
) -> None:
    """The wrapper spoils the picture before it raises: whatever is left of that would show."""
    cell = next(cell for cell in all_cells() if cell.name == "overlay garbage:scribble")
    config = load_config(None, [*SETTINGS, "overlay.hud=true"]).config
    sinks = [f"diary:{tmp_path / 'diary'}", f"png:{tmp_path / 'pictures'}", f"jsonl:{tmp_path / 'log'}"]
    request = RunRequest([str(video)], [parse_sink(sink) for sink in sinks], None, config, quiet=True)
    app.play(request, Injector(cell, tmp_path), chaos=True)
    captured = pictures_of(video)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    spoilt = {(line["loop"], line["seq"]) for line in lines if line["cause"] == "drawing failed"}
    raw = set()
    for line in lines:
        path = tmp_path / "pictures" / snapshot_name(FrameKey(0, line["loop"], line["seq"]))
        if not path.exists():  # a sink on a crowded machine has no room for all
            spoilt.discard((line["loop"], line["seq"]))
        elif np.array_equal(cv2.imread(str(path)), captured[line["seq"]]):
            raw.add((line["loop"], line["seq"]))
    assert len(spoilt) > 5
    assert spoilt <= raw
    assert len(raw) < len(lines)  # the others carry a mark


def pictures_of(video: Path) -> dict[int, ImageBgr]:
    """Every picture of a file as capture decodes it."""
    found = {}
    with open_source(str(video)) as source:
        for picture in source:
            found[picture.seq] = np.empty((*picture.size_hw, 3), np.uint8)
            picture.fill(found[picture.seq])
    return found
