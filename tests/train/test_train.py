"""Whole runs of a tiny network: it learns, goes on where it was killed, and two with one seed agree."""

import importlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError, SourceMissing
from endostream.models.metrics import count
from endostream.models.weights_files import sha256_of
from endostream.train.batches import boundary_weight
from endostream.train.recipe import LossRecipe, OptimiserRecipe, Recipe

from .conftest import TINY, TINY_WIDTHS, import_keras, write_data

MakeData = Callable[..., Path]
STEPS = 160


def recipe(**changes: Any) -> Recipe:
    base = {"preset": TINY, "split": "drawn", "epochs": 4, "batch": 4, "seed": 1}
    return Recipe.model_validate({**base, **changes})


def run(data: Path, out: Path, made: Recipe, **options: Any) -> tuple[Any, list[str]]:
    """Train; returns the progress and what was said."""
    train = importlib.import_module("endostream.train.train")
    said: list[str] = []
    progress = train.train(made, train.RunOptions(data, out, workers=0, **options), said.append)
    return progress, said


def test_ten_thousand_parameters_overfit_eight_phantom_frames(tiny_preset: str) -> None:
    phantom_module = importlib.import_module("endostream.replay.phantom")
    resunet = import_keras("endostream.models.resunet")
    learner_module = import_keras("endostream.train.learner")
    inputs, masks = phantom_frames(phantom_module.Phantom(64, 64, seed=0), 8)
    targets = np.stack([np.dstack([mask, boundary_weight(mask, 5.0)]) for mask in masks])
    config = resunet.preset_config(tiny_preset)
    optimiser = OptimiserRecipe(learning_rate=0.01, warmup_epochs=0.05, weight_decay=0.0, ema=0.9)
    resunet.keras.utils.set_random_seed(0)
    learner = learner_module.build_learner(config, LossRecipe())
    learner.compile(optimizer=learner_module.build_optimiser(optimiser, STEPS, 1))
    batches = ((inputs, targets) for _ in range(STEPS))
    learner.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    network = resunet.build_resunet(config)
    assert 9_000 < network.count_params() < 11_000
    learner_module.copy_averaged(learner, network)
    logits = np.asarray(network.predict_on_batch(inputs))[..., 0]
    dice = [count(one > 0, mask > 0).dice for one, mask in zip(logits, masks, strict=True)]
    assert np.mean(dice) > 0.95


def test_an_epoch_goes_on_from_the_weights_and_not_from_their_averages(tiny_preset: str) -> None:
    resunet = import_keras("endostream.models.resunet")
    learner_module = import_keras("endostream.train.learner")
    learner = learner_module.build_learner(resunet.preset_config(tiny_preset), LossRecipe())
    learner.compile(optimizer=learner_module.build_optimiser(OptimiserRecipe(ema=0.9), 2, 2))
    inputs = np.random.default_rng(0).integers(256, size=(2, 64, 64, 3), dtype=np.uint8)
    targets = np.full((2, 64, 64, 2), 255, np.uint8)
    learner.fit(inputs, targets, batch_size=1, shuffle=False, verbose=0)
    network = resunet.build_resunet(resunet.preset_config(tiny_preset))
    live = learner.get_layer("stem_conv").get_weights()[0]
    learner_module.copy_averaged(learner, network)
    averaged = network.get_layer("stem_conv").get_weights()[0]
    assert not np.array_equal(live, averaged)
    assert np.array_equal(learner.get_layer("stem_conv").get_weights()[0], live)


def phantom_frames(phantom: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The first frames, four apart, that show a good deal of polyp: RGB pictures and masks of 0 or 255."""
    inputs: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    index = 0
    while len(inputs) < number:
        image_bgr, mask = phantom.render(index)
        index += 4
        if mask.mean() > 0.02:
            inputs.append(image_bgr[..., ::-1].copy())
            masks.append(mask.astype(np.uint8) * np.uint8(255))
    return np.stack(inputs), np.stack(masks)


def test_a_run_leaves_its_files_and_a_row_an_epoch(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    progress, said = run(make_data(12), out, recipe(epochs=3))
    assert progress.epochs_done == len(progress.rows) == 3
    for name in ("recipe.json", "checkpoint.npz", "best.weights.h5", "last.weights.h5", "curve.csv"):
        assert (out / name).stat().st_size > 0
    assert (out / "curve.csv").read_text().count("\n") == 4
    assert sum(line.startswith("epoch ") for line in said) == 3


def test_a_run_may_begin_with_the_weights_of_another(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(12)
    run(data, tmp_path / "first", recipe(epochs=1))
    still = recipe(
        epochs=1, optimiser={"learning_rate": 1e-9, "end_learning_rate": 1e-9, "schedule": "constant"}
    )
    run(data, tmp_path / "second", still, init=tmp_path / "first" / "last.weights.h5")
    resunet = import_keras("endostream.models.resunet")
    networks = [resunet.build_resunet(resunet.preset_config(tiny_preset)) for _ in range(2)]
    for network, name in zip(networks, ("first", "second"), strict=True):
        network.load_weights(tmp_path / name / "last.weights.h5")
    first, second = (network.get_layer("stem_conv").get_weights()[0] for network in networks)
    np.testing.assert_allclose(first, second, atol=1e-6)
    notes = [json.loads((tmp_path / name / "recipe.json").read_text()) for name in ("first", "second")]
    assert notes[0]["begun_with"] is None
    assert notes[1]["begun_with"] == {
        "sha256": sha256_of(tmp_path / "first" / "last.weights.h5"),
        "training": notes[0],
    }
    run(data, tmp_path / "second", still, resume=True)
    assert (
        json.loads((tmp_path / "second" / "recipe.json").read_text())["begun_with"] == notes[1]["begun_with"]
    )


def test_weights_to_begin_with_that_are_none_are_refused(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="--init"):
        run(make_data(12), tmp_path / "run", recipe(epochs=1), init=tmp_path / "bad.weights.h5")


GROWING = {"early_input_px": 32, "early_epochs": 3}
"""Settings of the run that is interrupted: the input grows after the third of four epochs."""


@pytest.fixture(scope="module")
def whole(tiny_preset: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run from beginning to end: its folder and progress, the data beside it."""
    folder = tmp_path_factory.mktemp("whole")
    write_data(folder / "data", 12)
    return folder, run(folder / "data", folder / "run", recipe(**GROWING))[0]


def test_an_interrupted_run_goes_on_to_the_same_curve(whole: tuple[Path, Any], tmp_path: Path) -> None:
    folder, progress = whole
    run(folder / "data", tmp_path / "parts", recipe(**GROWING), stop_after=2)
    parts, _ = run(folder / "data", tmp_path / "parts", recipe(**GROWING), resume=True)
    assert [row["input_px"] for row in progress.rows] == [32, 32, 32, 64]
    assert parts.rows == progress.rows
    assert (tmp_path / "parts" / "curve.csv").read_text() == (folder / "run" / "curve.csv").read_text()


def test_a_run_killed_by_sigkill_goes_on_to_the_same_curve(whole: tuple[Path, Any], tmp_path: Path) -> None:
    folder, progress = whole
    data, out, made = folder / "data", tmp_path / "killed", recipe(**GROWING)
    code = f"""
        from pathlib import Path
        from endostream.train.commands import choose_backend
        choose_backend(threads=1)
        from endostream.models.resunet import PRESETS, ResUNetConfig
        PRESETS[{TINY!r}] = ResUNetConfig({TINY!r}, (64, 64), {TINY_WIDTHS!r}, context_filters=4)
        from endostream.train.recipe import Recipe
        from endostream.train.train import RunOptions, train
        made = Recipe.model_validate_json({made.model_dump_json()!r})
        options = RunOptions(Path({str(data)!r}), Path({str(out)!r}), workers=0)
        train(made, options, lambda line: print(line, flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("epoch 2/"):
                child.kill()
                break
        assert child.wait(60) < 0
    resumed, _ = run(data, out, made, resume=True)
    assert resumed.rows == progress.rows


def test_a_finished_run_taken_up_again_changes_nothing(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data, out = make_data(8), tmp_path / "run"
    first, _ = run(data, out, recipe(epochs=2))
    resunet = import_keras("endostream.models.resunet")
    networks = [resunet.build_resunet(resunet.preset_config(tiny_preset)) for _ in range(2)]
    networks[0].load_weights(out / "last.weights.h5")
    again, _ = run(data, out, recipe(epochs=2), resume=True)
    networks[1].load_weights(out / "last.weights.h5")
    assert again == first
    for one, other in zip(networks[0].get_weights(), networks[1].get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_half_precision_and_a_teacher_go_together(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(8)
    run(data, tmp_path / "teacher", recipe(epochs=1))
    half = recipe(epochs=1, precision="mixed_bfloat16", loss={"teacher_preset": TINY, "teacher_weight": 0.5})
    progress, _ = run(data, tmp_path / "half", half, teacher=tmp_path / "teacher" / "best.weights.h5")
    assert np.isfinite(progress.rows[0]["loss"])


def test_a_teacher_is_taken_and_a_foreign_one_refused(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(8)
    run(data, tmp_path / "teacher", recipe(epochs=1))
    taught = recipe(epochs=1, loss={"teacher_preset": TINY, "teacher_weight": 0.5})
    weights = tmp_path / "teacher" / "best.weights.h5"
    progress, _ = run(data, tmp_path / "taught", taught, teacher=weights)
    alone, said = run(data, tmp_path / "alone", taught)
    assert progress.rows[0]["loss"] != alone.rows[0]["loss"]
    assert f"no --teacher: training without {TINY}" in said
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not weights of"):
        run(data, tmp_path / "bad", taught, teacher=tmp_path / "bad.weights.h5")


def test_a_folder_that_holds_a_run_is_not_overwritten(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data, out = make_data(8), tmp_path / "run"
    run(data, out, recipe(epochs=1))
    with pytest.raises(ConfigError, match=r"holds a run\. Try: --resume"):
        run(data, out, recipe(epochs=1))
    with pytest.raises(ConfigError, match=r"begun with seed=1, now 2"):
        run(data, out, recipe(epochs=1, seed=2), resume=True)
    for damaged in (b"cut off", b""):
        (out / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged"):
            run(data, out, recipe(epochs=1), resume=True)


def test_bad_data_ends_it_before_anything_is_written(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(8)
    (data / "masks" / "p03.jpg").unlink()
    with pytest.raises(SourceMissing, match="1 faults in 8 pairs"):
        run(data, tmp_path / "run", recipe())
    assert not (tmp_path / "run").exists()


def test_a_size_the_network_cannot_have_is_refused(
    tiny_preset: str, make_data: MakeData, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="input_px: 60; expected a multiple of 8"):
        run(make_data(8), tmp_path / "run", recipe(input_px=60))
