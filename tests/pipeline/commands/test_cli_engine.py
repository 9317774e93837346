"""``endostream build-engine``: what it builds, what it refuses and with which exit code, and its numeric gate."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.models.weights_files import preset_folder
from endostream.pipeline import engine_check
from endostream.pipeline.cli import run_command
from endostream.pipeline.commands.cli_engine import parse_targets
from endostream.pipeline.engine_check import LIMITS, Limits, Picture, compare, read_pictures

SMALL = preset_folder("resunet-small")


def build(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``build-engine --runtime rtx``."""
    code = run_command(["build-engine", "--runtime", "rtx", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def write_pictures(root: Path, count: int) -> Path:
    """``images/`` and ``masks/``: a disc on reddish ground, from left to right."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        image = np.full((240, 320, 3), (80, 90, 150), np.uint8)
        mask = np.zeros((240, 320), np.uint8)
        centre = (60 + 25 * index, 120)
        cv2.circle(image, centre, 40, (110, 120, 205), -1)
        cv2.circle(mask, centre, 40, 255, -1)
        cv2.imwrite(str(root / "images" / f"p{index}.png"), image)
        cv2.imwrite(str(root / "masks" / f"p{index}.png"), mask)
    return root


def test_the_engine_of_the_shipped_network_is_built_and_then_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = build(capsys, "--target", "sm86,sm89,sm120", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    path, how = out.splitlines()
    assert Path(path).is_file()
    assert how.startswith("built in ")
    assert "resunet-small fp16 for sm86, sm89, sm120 by rtx" in how
    code, out, _ = build(capsys, "--target", "sm86,sm89,sm120", "--out", str(tmp_path), "--json")
    answer = json.loads(out)
    assert (code, answer["engine"], answer["origin"], answer["check"]) == (0, path, "hit", None)
    assert answer["record"]["targets"] == ["sm86", "sm89", "sm120"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_network_is_built_at_the_other_precisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    code, out, _ = build(
        capsys, "--target", "sm89", "--precision", precision, "--out", str(tmp_path), "--json"
    )
    assert code == 0
    assert json.loads(out)["record"]["precision"] == precision


def test_a_damaged_engine_is_told_and_built_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ("--target", "sm89", "--out", str(tmp_path), "--json")
    _, out, _ = build(capsys, *arguments)
    Path(json.loads(out)["engine"]).write_bytes(b"short")
    code, out, _ = build(capsys, *arguments)
    answer = json.loads(out)
    assert (code, answer["origin"]) == (0, "rebuilt")
    assert "5 bytes, expected" in answer["refusal"]
    assert "5 bytes, expected" in caplog.text


def test_a_rebuild_is_done_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--target", "sm89", "--out", str(tmp_path), "--json")
    build(capsys, *arguments)
    _, out, _ = build(capsys, *arguments, "--rebuild")
    assert json.loads(out)["origin"] == "built"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["--runtime", "tensorrt"],
            4,
            "runtime tensorrt: not installed. Try: pip install 'endostream[tensorrt]'",
        ),
        ([], 4, "GPU: no NVIDIA driver"),
        (["--target", "sm90"], 4, "target: sm90; rtx"),
        (["--target", "89"], 2, "--target: '89'; expected smNN"),
        (["--target", ","], 2, "--target: ','; expected smNN"),
        (["--runtime", "openvino"], 2, "'openvino'; expected tensorrt or rtx"),
        (["--precision", "fp8", "--target", "sm89"], 2, "precision: 'fp8'; expected one of fp32, fp16, int8"),
        (["--segmenter", "fcm", "--target", "sm89"], 2, "--segmenter: 'fcm'; expected a network"),
        (["--segmenter", "resunet-large", "--target", "sm89"], 2, "'resunet-large'; expected a network"),
        (["--model", "nowhere.onnx", "--target", "sm89"], 4, "nowhere.onnx; no such file"),
        (
            ["--check", "--target", "sm89"],
            2,
            "--check: no pictures in nowhere/kvasir-seg; expected --data DIR",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("ENDOSTREAM_DATA", "nowhere")
    monkeypatch.setattr("endostream.models.trt_gpu.no_gpu_reason", lambda: "no NVIDIA driver")
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    found, out, err = build(capsys, *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_no_gpu_is_told_with_the_way_to_build_without_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endostream.models.trt_gpu.no_gpu_reason", lambda: "no NVIDIA driver")
    assert "Try: endostream build-engine --runtime rtx --target sm89" in build(capsys)[2]


def test_targets_are_read_in_any_case() -> None:
    assert parse_targets("SM86, sm120") == ("sm86", "sm120")
    assert parse_targets("") == ()
    with pytest.raises(ConfigError, match="'smx'"):
        parse_targets("sm86,smx")


@pytest.fixture
def tiny_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of 10 k parameters as ``endostream export`` leaves it; the folder."""
    commands = importlib.import_module("endostream.train.commands")
    commands.choose_backend()
    resunet = importlib.import_module("endostream.models.resunet")
    graph = importlib.import_module("endostream.train.onnx_graph")
    config = resunet.ResUNetConfig("resunet-tiny", (64, 64), (8, 9, 11), context_filters=4)
    monkeypatch.setitem(resunet.PRESETS, "resunet-tiny", config)
    resunet.keras.utils.set_random_seed(0)
    network = resunet.build_resunet(config)
    network.save_weights(tmp_path / "model.weights.h5")
    onnx.save(graph.onnx_from_network(network), tmp_path / "model.onnx")
    return tmp_path


def test_the_check_says_what_ran_and_that_the_engine_did_not(
    tiny_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endostream.models.cuda_device.no_gpu_reason", lambda: "no NVIDIA driver")
    data = write_pictures(tiny_files / "data", 3)
    arguments = [
        "--segmenter",
        "resunet-tiny",
        "--model",
        str(tiny_files / "model.onnx"),
        "--precision",
        "fp32",
    ]
    arguments += ["--target", "sm89", "--out", str(tiny_files), "--check", "--data", str(data)]
    code, out, _ = build(capsys, *arguments)
    assert code == 0
    assert "checked on 3 pictures" in out
    assert "keras to onnx            ok: " in out
    assert "onnx to fp32 graph       ok: 0 of 12288 pixels flipped" in out
    assert "onnx to rtx engine       NOT RUN: no NVIDIA driver" in out
    assert "the engine itself was not run" in out


def test_a_limit_that_is_exceeded_is_exit_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endostream.models.cuda_device.no_gpu_reason", lambda: "no NVIDIA driver")
    monkeypatch.setitem(LIMITS, "fp16", Limits(0.0, 0.0))
    data = write_pictures(tmp_path / "data", 3)
    model = moved_model(tmp_path)
    arguments = (
        "--target",
        "sm89",
        "--model",
        str(model),
        "--out",
        str(tmp_path),
        "--check",
        "--data",
        str(data),
    )
    code, out, err = build(capsys, *arguments, "--json")
    steps = {step["name"]: step for step in json.loads(out)["check"]["steps"]}
    assert code == 5
    assert steps["onnx to fp16 graph"]["passed"] is False
    assert "beside" in steps["keras to onnx"]["not_run"]
    assert "check: not met" in err


def moved_model(folder: Path) -> Path:
    """The shipped network with a bias that brings its logits near 0, where float16 flips pixels; without Keras weights.

    The bias comes from the network itself: one that was fixed moved nothing any more once the weights were others.
    """
    model = onnx.load(SMALL / "model.onnx")
    (picture, *_) = read_pictures(folder / "data", (320, 320))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (logits,) = session.run(["logits"], {"image": picture.image_rgb[None]})
    for constant in model.graph.initializer:
        if constant.name == "logits_half_bias":
            bias = numpy_helper.to_array(constant) - np.float32(np.median(logits))
            constant.CopyFrom(numpy_helper.from_array(bias, constant.name))
    path = folder / "moved.onnx"
    onnx.save(model, path)
    return path


def test_int8_is_held_against_the_float_file_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endostream.models.cuda_device.no_gpu_reason", lambda: "no NVIDIA driver")
    data = write_pictures(tmp_path / "data", 2)
    arguments = ("--precision", "int8", "--target", "sm89", "--out", str(tmp_path), "--check")
    code, out, _ = build(capsys, *arguments, "--data", str(data), "--json")
    steps = {step["name"]: step for step in json.loads(out)["check"]["steps"]}
    assert steps["onnx to int8 graph"]["pixels"] == 2 * 320 * 320
    assert (code, steps["onnx to int8 graph"]["passed"]) == (0, True)


def mask(*pixels: int) -> Any:
    flat = np.zeros(16, np.bool_)
    flat[list(pixels)] = True
    return flat.reshape(4, 4)


def picture(name: str, truth: Any = None) -> Picture:
    return Picture(name, np.zeros((4, 4, 3), np.uint8), truth)


def test_a_step_counts_flipped_pixels_and_names_the_worst_picture() -> None:
    pictures = [picture("a", mask(0, 1)), picture("b", mask(0, 1))]
    step = compare(
        "x to y", pictures, [mask(0, 1), mask(0, 1)], [mask(0, 1), mask(0, 2, 3)], Limits(0.1, 0.4)
    )
    assert (step.flipped_pixels, step.pixels, step.flipped_share) == (3, 32, 3 / 32)
    assert (step.worst_picture, step.worst_flipped_pixels, step.worst_dice) == ("b", 3, pytest.approx(0.4))
    assert step.dice_against == "truth"
    assert step.dice_difference == pytest.approx(0.3)  # 1 and 1 against 1 and 2/5
    assert step.passed is True


@pytest.mark.parametrize("limits", [Limits(0.09, 0.4), Limits(0.1, 0.29)])
def test_either_limit_alone_fails_a_step(limits: Limits) -> None:
    pictures = [picture("a", mask(0, 1)), picture("b", mask(0, 1))]
    step = compare("x to y", pictures, [mask(0, 1), mask(0, 1)], [mask(0, 1), mask(0, 2, 3)], limits)
    assert step.passed is False


def test_without_true_masks_the_networks_are_held_against_each_other() -> None:
    step = compare("x to y", [picture("a")], [mask(0, 1)], [mask(0, 2)], Limits(1, 1))
    assert (step.dice_against, step.dice_difference) == ("each other", pytest.approx(0.5))


def test_pictures_are_spread_over_the_folder_and_have_their_masks(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", 5)
    (data / "masks" / "p4.png").unlink()
    found = read_pictures(data, (320, 320), most=3)
    assert [each.name for each in found] == ["p0", "p2", "p4"]
    assert [each.truth is None for each in found] == [False, False, True]
    assert found[0].image_rgb.shape == (320, 320, 3)
    flat = read_pictures(data / "images", (320, 320))
    assert [(each.name, each.truth) for each in flat] == [(f"p{i}", None) for i in range(5)]


def test_a_folder_without_pictures_and_a_picture_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no pictures in it"):
        read_pictures(tmp_path, (320, 320))
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(SourceMissing, match=r"a.jpg; cannot be decoded"):
        read_pictures(tmp_path, (320, 320))


def test_the_data_sets_folder_is_taken_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "kvasir-seg").mkdir()
    assert engine_check.data_folder(None, {"ENDOSTREAM_DATA": str(tmp_path)}) == tmp_path / "kvasir-seg"
    assert engine_check.data_folder(Path("given"), {"ENDOSTREAM_DATA": str(tmp_path)}) == Path("given")


@pytest.mark.data
@pytest.mark.parametrize(("precision", "most_flipped"), [("fp16", 5e-4), ("int8", 1e-2)])
def test_the_shipped_network_passes_on_real_pictures(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str, most_flipped: float
) -> None:
    for name in (
        "model.onnx",
        "model_int8_signed.onnx",
    ):  # without the Keras weights: their step is another test's
        shutil.copy(SMALL / name, tmp_path)
    model = tmp_path / ("model_int8_signed.onnx" if precision == "int8" else "model.onnx")
    arguments = ["--precision", precision, "--model", str(model), "--target", "sm89", "--out", str(tmp_path)]
    code, out, _ = build(capsys, *arguments, "--check", "--data", str(data_dir / "kvasir-seg"), "--json")
    found = json.loads(out)["check"]
    step = next(step for step in found["steps"] if step["name"] == f"onnx to {precision} graph")
    assert (code, found["pictures"], found["with_true_masks"], step["passed"]) == (0, 50, 50, True)
    assert 0 < step["flipped_share"] <= most_flipped
    assert step["dice_difference"] <= 0.01
