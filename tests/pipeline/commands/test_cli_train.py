"""train, evaluate and export on the command line: options arrive, mistakes are one line and an exit code."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from endostream.configs.errors import ExitCode, ModelError
from endostream.pipeline.cli import run_command
from endostream.train import commands


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four grey pairs of 32 × 48."""
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((32, 48), np.uint8)
        mask[8:20, 10:30] = 255
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{index}.png"), np.dstack([mask // 2 + 90] * 3))
        cv2.imwrite(str(tmp_path / "data" / "masks" / f"{index}.png"), mask)
    return tmp_path / "data"


def test_evaluate_prints_every_metric_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(["evaluate", "--segmenter", "fcm-plain", "--data", str(data), "--json"]) == ExitCode.DONE
    )
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == 4
    assert {"dice_per_image", "miou_two_class_thresholds", "boundary_f_per_image", "speed"} <= set(answer)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["evaluate", "--segmenter", "nope", "--data", "DATA"], ExitCode.USAGE, "segmenter: 'nope'"),
        (["evaluate", "--segmenter", "fcm", "--data", "NONE"], ExitCode.SOURCE, "no such folder"),
        (
            ["evaluate", "--segmenter", "fcm", "--data", "DATA", "--list", "NONE"],
            ExitCode.USAGE,
            "cannot be read",
        ),
        (
            ["evaluate", "--segmenter", "fcm", "--data", "DATA", "--figure", "fig.pdf"],
            ExitCode.USAGE,
            "--figure: fig.pdf; expected a name that ends in .jpg, .jpeg, .png",
        ),
        (
            ["evaluate", "--segmenter", "fcm", "--data", "DATA", "--worst", "sheet"],
            ExitCode.USAGE,
            "--worst: sheet; expected a name",
        ),
        (["train", "--data", "NONE"], ExitCode.SOURCE, "no such folder"),
        (
            ["train", "--data", "DATA", "--init", "NONE"],
            ExitCode.MODEL,
            "none; no such file. Try: best.weights",
        ),
        (["train", "--data", "DATA", "--teacher", "NONE"], ExitCode.MODEL, "--teacher: "),
        (["train", "--data", "DATA", "--set", "epoch=3"], ExitCode.USAGE, "Try: epochs"),
        (["train", "--data", "DATA", "--preset", "huge"], ExitCode.USAGE, "recipe: 'huge'"),
        (["export", "--data", "DATA"], ExitCode.USAGE, "nothing to export"),
        (["export", "--data", "DATA", "--run", "NONE"], ExitCode.USAGE, "no run of endostream train"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    places = {"DATA": str(data), "NONE": str(data / "none")}
    assert run_command([places.get(each, each) for each in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_bad_data_is_named_before_anything_is_loaded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "masks" / "1.png").unlink()
    (data / "images" / "2.png").write_bytes(b"")
    assert run_command(["train", "--data", str(data)]) == ExitCode.SOURCE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "mask of 1: missing" in lines[0]
    assert "0 bytes" in lines[1]


def test_a_run_ended_before_its_first_validation_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended with "unexpected TypeError", having trained as it was asked to."""
    answer = {
        "weights": "run/last.weights.h5",
        "epochs_done": 1,
        "best_epoch": None,
        "best_val_dice_per_image": None,
    }
    monkeypatch.setattr(commands, "train_command", lambda _: answer)
    assert run_command(["train", "--data", "d", "--stop-after", "1"]) == ExitCode.DONE
    assert capsys.readouterr().out == "run/last.weights.h5: 1 epochs done, not validated yet\n"


@pytest.mark.parametrize("epochs", [0, 1])
def test_ctrl_c_tells_how_to_go_on_where_there_is_something_to_go_on_from(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    epochs: int,
) -> None:
    def interrupted(*_: Any) -> None:
        if epochs:
            (tmp_path / "checkpoint.npz").touch()
        raise KeyboardInterrupt

    trainer = SimpleNamespace(RunOptions=SimpleNamespace, train=interrupted)
    monkeypatch.setitem(sys.modules, "endostream.train.train", trainer)  # type: ignore[arg-type]
    monkeypatch.setattr(commands, "choose_backend", lambda *_, **__: "jax")
    assert run_command(["train", "--data", str(data), "--out", str(tmp_path)]) == ExitCode.INTERRUPTED
    said = "interrupted; whole epochs are kept. Try: the same command with --resume\n"
    assert capsys.readouterr().err == (said if epochs else "")


def test_the_backend_is_chosen_before_keras_is_imported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras takes its backend when it is imported: later, --backend would change nothing."""
    for name in [name for name in sys.modules if name.startswith("endostream.train.")]:
        if name != "endostream.train.commands":
            monkeypatch.delitem(sys.modules, name)
    importing_keras: list[str] = []

    def chosen(*_: Any, **__: Any) -> str:
        importing_keras.extend(name for name in sys.modules if name.startswith("endostream.train.learner"))
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "choose_backend", chosen)
    assert run_command(["train", "--data", str(data), "--out", str(tmp_path)]) == ExitCode.INTERRUPTED
    assert importing_keras == []


@pytest.mark.parametrize(("int8", "missing"), [("--int8", "nncf"), ("--no-int8", "onnx")])
def test_what_an_export_needs_is_told_before_anything_is_loaded(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], int8: str, missing: str
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == missing else name)
    weights = data / "w.weights.h5"
    weights.touch()
    arguments = ["--data", str(data), "--preset", "resunet-small", "--weights", str(weights), int8]
    assert run_command(["export", *arguments]) == ExitCode.MODEL
    said = f"export: {missing} is not installed. Try: pip install 'endostream[train]'\n"
    assert capsys.readouterr().err == f"endostream: {said}"


@pytest.mark.parametrize(
    ("installed", "wanted", "remedy"),
    [
        ({"keras", "tensorflow"}, "jax", "jax is not installed. Try: pip install jax"),
        ({"jax"}, "jax", "keras is not installed. Try: pip install 'endostream[train]'"),
        (
            {"keras"},
            "",
            "tensorflow or jax or torch is not installed. Try: pip install 'endostream[train]'",
        ),
    ],
)
def test_a_missing_backend_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], wanted: str, remedy: str
) -> None:
    """It said endostream[train] for JAX, which is not in that."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(commands, "find_spec", lambda name: name if name in installed else None)
    with pytest.raises(ModelError, match=re.escape(remedy)):
        commands.choose_backend(wanted)


def test_the_options_of_train_arrive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Any] = []
    answer = {"weights": "w", "best_val_dice_per_image": 0.5, "best_epoch": 3}
    monkeypatch.setattr(commands, "train_command", lambda request: taken.append(request) or answer)
    arguments = "train --data D --recipe small-cpu --out O --split drawn --set epochs=3 --resume --teacher T"
    arguments += " --workers 0 --threads 2 --backend jax --stop-after 2 --no-deterministic"
    assert run_command(arguments.split()) == ExitCode.DONE
    assert taken == [
        commands.TrainRequest(
            data=Path("D"),
            recipe="small-cpu",
            out=Path("O"),
            split="drawn",
            settings=("epochs=3",),
            resume=True,
            teacher=Path("T"),
            workers=0,
            threads=2,
            backend="jax",
            stop_after=2,
            deterministic=False,
        )
    ]
    assert capsys.readouterr().out == "w: validation Dice per image 0.5000, epoch 3\n"
