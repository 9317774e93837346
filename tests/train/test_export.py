"""The ONNX graph computes what Keras does, the gates hold, and what is written can be run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import CheckFailed, ModelError
from endostream.models.weights_files import FILE_OF, model_file, read_card

from .conftest import TINY, import_keras, write_data


def stirred(network: Any) -> Any:
    """The network with batch norms away from where they start, so that folding them is put to the test."""
    random = np.random.default_rng(0)
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            size = layer.gamma.shape[0]
            spread, shift = random.uniform(0.5, 1.5, (2, size)), random.normal(0, 0.2, (2, size))
            layer.set_weights([spread[0], shift[0], shift[1], spread[1]])
    return network


@pytest.mark.parametrize("pre_activation", [True, False])
def test_the_graph_computes_what_keras_does(tmp_path: Path, pre_activation: bool) -> None:
    resunet = import_keras("endostream.models.resunet")
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = import_keras("endostream.train.onnx_graph")
    context, stem = (0, 1) if pre_activation else (8, 2)
    config = resunet.ResUNetConfig("t", (64, 96), (8, 12, 16), stem, pre_activation, context)
    network = stirred(resunet.build_resunet(config))
    onnx.save(graph.onnx_from_network(network), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    image = np.random.default_rng(1).integers(256, size=(1, 64, 96, 3), dtype=np.uint8)
    (theirs,) = session.run(["logits"], {"image": image})
    assert theirs.shape == (1, 64, 96, 1)
    assert theirs == pytest.approx(np.asarray(network.predict_on_batch(image)), abs=1e-3)


def test_batch_norms_after_convolutions_are_gone_from_the_graph() -> None:
    resunet = import_keras("endostream.models.resunet")
    pytest.importorskip("onnx")
    graph = import_keras("endostream.train.onnx_graph")
    config = resunet.ResUNetConfig("t", (64, 64), (8, 12, 16), context_filters=8)
    model = graph.onnx_from_network(resunet.build_resunet(config))
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Mul") == 1  # the scaling to [-1, 1]


@pytest.fixture(scope="module")
def options(tiny_preset: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What to export: a network that was never trained, and ten drawn pairs."""
    resunet = import_keras("endostream.models.resunet")
    folder = tmp_path_factory.mktemp("export")
    resunet.keras.utils.set_random_seed(0)
    network = stirred(resunet.build_resunet(resunet.preset_config(tiny_preset)))
    network.save_weights(folder / "run.weights.h5")
    data = write_data(folder / "data", 10)
    pytest.importorskip("onnx")
    export = import_keras("endostream.train.export")
    return export.ExportOptions(tiny_preset, folder / "run.weights.h5", data, "drawn", folder / "out")


@pytest.fixture(scope="module")
def exported(options: Any) -> Path:
    for package in ("openvino", "nncf", "onnxruntime"):
        pytest.importorskip(package)
    export = import_keras("endostream.train.export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "MAX_DICE_LOSS", 1.0)  # what was never trained may lose anything
        export.export(options, lambda line: None)
    folder: Path = options.out
    return folder


def test_an_export_leaves_four_models_and_a_card_that_fits_them(exported: Path) -> None:
    card = read_card(exported)
    assert set(card["sha256"]) == {
        "model.weights.h5",
        "model.onnx",
        "model_int8.onnx",
        "model_int8_signed.onnx",
    }
    assert (card["data"], card["split"]["name"]) == ("data", "drawn")
    assert "Kvasir-SEG" not in card["terms"]
    assert card["parity_with_keras"]["max_logit_difference"] <= 1e-3
    assert set(card["metrics_on_validation_pictures"]) == {"fp32", "int8", "int8_signed"}
    for kind in ("fp32", "int8", "int8_signed"):
        path, digest = model_file(TINY, kind, exported / FILE_OF[kind])
        assert digest == card["sha256"][path.name]


def test_int8_has_symmetric_steps_only(exported: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported / "model_int8.onnx")
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    zeros = [constants[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(zeros) > 10
    assert not any(zero.any() for zero in zeros)


def test_the_file_for_tensorrt_is_signed_and_leaves_the_first_stage_and_the_last_convolution_in_float(
    exported: Path,
) -> None:
    onnx = pytest.importorskip("onnx")
    from endostream.models.trt_precision import at_precision

    model = onnx.load(exported / "model_int8_signed.onnx")
    at_precision(model, "int8")  # raises for any Q/DQ that TensorRT computes differently
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    quantised = {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(name.startswith("dq_") for name in node.input)
    }
    names = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert names - quantised == {name for name in names if name.startswith(("stem_", "encoder0_", "logits"))}
    assert len(quantised) > 5
    assert {constants[name].dtype.name for name in constants if name.startswith("zero_point")} == {"int8"}


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "keras"])
def test_every_runtime_takes_the_files(exported: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    runtimes = import_keras("endostream.models.runtimes")
    name = "model.weights.h5" if runtime == "keras" else "model.onnx"
    options = {} if runtime == "keras" else {"precision": "fp32"}
    segmenter = runtimes.open_preset(TINY, runtime, model=str(exported / name), **options)
    answer = segmenter.segment(np.full((64, 64, 3), 90, np.uint8), "prob")
    assert answer.prob is not None
    assert answer.prob.shape == (64, 64)
    assert runtime in segmenter.info.runtime
    segmenter.close()


def test_a_truncated_file_is_refused_by_its_card(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes((exported / "card.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated or edited"):
        model_file(TINY, "fp32", tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("limit", "value", "int8"), [("MAX_LOGIT_DIFFERENCE", 0.0, False), ("MAX_DICE_LOSS", -2.0, True)]
)
def test_a_gate_that_is_not_met_writes_nothing(
    options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, int8: bool
) -> None:
    for package in ("openvino", "nncf", "onnxruntime"):
        pytest.importorskip(package)
    export = import_keras("endostream.train.export")
    monkeypatch.setattr(export, limit, value)
    with pytest.raises(CheckFailed, match="expected at most"):
        export.export(replace(options, out=tmp_path / "out", int8=int8), lambda line: None)
    assert not (tmp_path / "out").exists()
