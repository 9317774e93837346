"""The network's segmenters on each runtime that is installed, with a two-line network: bright is polyp."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.models.logits_segmenter import prob_of, require_signature
from endostream.models.runtimes import open_preset
from endostream.models.segmenter import Segmenter, load_segmenter, segmenter_input_hw
from endostream.models.weights_files import model_file, read_card, sha256_of

from .segmenter_contract import SegmenterContract


def write_bright_network(path: Path, height: int = 48, width: int = 64, kind: str = "UINT8") -> Path:
    """ONNX: mean of the channels less 150, over 10."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[3], keepdims=1),
        helper.make_node("Sub", ["mean", "level"], ["above"]),
        helper.make_node("Div", ["above", "ten"], ["logits"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("level", 150), ("ten", 10))
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("image", getattr(types, kind), [1, height, width, 3])],
        [helper.make_tensor_value_info("logits", types.FLOAT, [1, height, width, 1])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


class RuntimeContract(SegmenterContract):
    """What each runtime must do with an ONNX file."""

    runtime = ""

    @pytest.fixture(autouse=True)
    def _model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip(self.runtime)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        self.path = write_bright_network(tmp_path / "model.onnx")

    def open_segmenter(self) -> Segmenter:
        return open_preset("resunet-small", self.runtime, model=str(self.path))

    def test_bright_is_marked(self, segmenter: Segmenter) -> None:
        image = np.full((48, 64, 3), 100, np.uint8)
        image[10:20, 30:50] = 200
        mask = segmenter.segment(image).mask
        assert mask[10:20, 30:50].all()
        assert mask.sum() == 200

    def test_a_mark_that_is_sure_nowhere_is_dropped_whole_and_kept_on_request(self) -> None:
        image = np.full((48, 64, 3), 100, np.uint8)
        image[10:20, 30:50] = 155  # logit 0.5, and nowhere more
        image[30:40, 5:15] = 155
        image[33, 8] = 200  # logit 5
        kept = np.zeros((48, 64), bool)
        kept[30:40, 5:15] = True
        segmenter = open_preset("resunet-small", self.runtime, model=str(self.path))
        every = open_preset("resunet-small", self.runtime, model=str(self.path), sure_prob=0.5)
        try:
            found = segmenter.segment(image, "prob")
            assert np.array_equal(found.mask, kept)
            assert found.prob is not None
            assert np.array_equal(found.prob > 0.5, kept)
            assert np.array_equal(segmenter.segment(image).mask, kept)
            assert every.segment(image).mask.sum() == 300
        finally:
            segmenter.close()
            every.close()

    @pytest.mark.parametrize("sure_prob", [0.0, 0.49, 1.0])
    def test_a_probability_to_be_sure_of_lies_between_one_half_and_one(self, sure_prob: float) -> None:
        with pytest.raises(ConfigError, match="sure_prob"):
            open_preset("resunet-small", self.runtime, model=str(self.path), sure_prob=sure_prob)

    def test_it_says_which_file_it_runs(self, segmenter: Segmenter) -> None:
        assert segmenter.info.weights_sha256 == sha256_of(self.path)
        assert self.runtime in segmenter.info.runtime
        assert segmenter.info.name == "resunet-small"

    def test_a_damaged_or_foreign_file_is_refused(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(self.path.read_bytes()[:60])
        with pytest.raises(ModelError, match=r"bad\.onnx"):
            open_preset("resunet-small", self.runtime, model=str(bad))
        foreign = write_bright_network(tmp_path / "float.onnx", kind="FLOAT")
        with pytest.raises(ModelError, match="expected uint8 1 × H × W × 3"):
            open_preset("resunet-small", self.runtime, model=str(foreign))
        with pytest.raises(ModelError, match="320 × 320"):
            open_preset("resunet-small", self.runtime, model=str(self.path), input_hw=(320, 320))


class TestOpenvino(RuntimeContract):
    runtime = "openvino"

    def test_threads_out_of_range_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="threads: 99"):
            open_preset("resunet-small", "openvino", model=str(self.path), threads=99)


class TestOnnxruntime(RuntimeContract):
    runtime = "onnxruntime"

    def test_an_unknown_provider_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"expected one of .*CPUExecutionProvider"):
            open_preset("resunet-small", "onnxruntime", model=str(self.path), provider="Nonsense")


def test_unknown_runtimes_and_options_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="expected auto, openvino, onnxruntime, keras"):
        open_preset("resunet-small", "caffe")
    monkeypatch.setattr("endostream.models.runtimes.find_spec", lambda package: None)
    with pytest.raises(ModelError, match=r"Try: pip install endostream\[openvino\]"):
        load_segmenter("resunet-small")


def test_an_option_a_runtime_does_not_take_is_named() -> None:
    pytest.importorskip("openvino")
    with pytest.raises(ConfigError, match="speed"):
        open_preset("resunet-small", "openvino", speed=3)


def test_base_says_that_it_eats_352() -> None:
    assert segmenter_input_hw("resunet-base") == (352, 352)
    assert segmenter_input_hw("resunet-small") == (320, 320)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file\. Try: another path"):
        model_file("resunet-small", "int8", tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="expected one of keras, fp32, int8"):
        model_file("resunet-small", "fp8")


def test_a_file_that_differs_from_its_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    (tmp_path / "card.json").write_text(json.dumps({"sha256": {"model.onnx": sha256_of(path)}}))
    assert model_file("resunet-small", "fp32", path) == (path, sha256_of(path))
    path.write_bytes(b"weight")
    with pytest.raises(ModelError, match="truncated or edited"):
        model_file("resunet-small", "fp32", path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_card_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelError, match="model card"):
        read_card(tmp_path)


def test_the_sigmoid_has_no_overflow_and_agrees_with_the_sign() -> None:
    logits = np.array([[-1000.0, -1.0, 0.0], [1.0, 88.0, 1000.0]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        prob = prob_of(logits)
    assert prob.dtype == np.float32
    assert prob == pytest.approx(np.array([[0, 0.2689414, 0.5], [0.7310586, 1, 1]]), abs=1e-6)
    assert np.array_equal(prob > 0.5, logits > 0)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([("image", [1, 4, 6, 3], "float32")], [("logits", [1, 4, 6, 1], "float32")]),
        ([("image", [1, 4, 6, 3], "uint8")], [("logits", [1, 4, 6], "float32")]),
        ([("image", [1, 3, 4, 6], "uint8")], [("logits", [1, 1, 4, 6], "float32")]),
        ([], [("logits", [1, 4, 6, 1], "float32")]),
    ],
)
def test_a_network_of_another_signature_is_refused(inputs: Any, outputs: Any) -> None:
    with pytest.raises(ModelError, match="endostream export"):
        require_signature("m.onnx", inputs, outputs, None)
