"""The network's segmenters on each runtime that is installed, with a two-line network: bright is polyp."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.models import runtimes
from endostream.models.logits_segmenter import prob_of, require_signature
from endostream.models.runtimes import RUNTIMES, open_preset
from endostream.models.segmenter import (
    Segmenter,
    SegmenterInfo,
    SegmenterLost,
    load_segmenter,
    segmenter_input_hw,
)
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

    def test_a_provider_that_does_not_come_up_is_refused_and_not_replaced_by_the_cpu(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import onnxruntime

        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        onnxruntime.set_default_logger_severity(4)
        try:
            with pytest.raises(
                ModelError,
                match=r"CUDAExecutionProvider is installed but does not work here.*Try: pip install",
            ):
                on_cuda(self.path)
        finally:
            onnxruntime.set_default_logger_severity(2)

    def test_an_onnxruntime_without_cuda_is_named_with_the_line_to_install(self) -> None:
        with pytest.raises(ModelError, match=r"without CUDA\. Try: .*endostream\[onnxruntime-cuda\]"):
            on_cuda(self.path)

    def test_an_error_of_the_gpu_ends_the_segmenter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        monkeypatch.setattr(onnxruntime, "InferenceSession", FailingSession)
        segmenter = on_cuda(self.path)
        assert "CUDA fp32" in segmenter.info.runtime
        with pytest.raises(SegmenterLost, match="onnxruntime on CUDA: CUDA failure 700"):
            segmenter.segment(np.zeros((48, 64, 3), np.uint8))

    def test_an_unknown_provider_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"expected one of .*CPUExecutionProvider"):
            open_preset("resunet-small", "onnxruntime", model=str(self.path), provider="Nonsense")


def on_cuda(model: Path) -> Segmenter:
    """The segmenter for ONNX Runtime's CUDA provider, its module imported only now."""
    from endostream.models.onnxruntime_segmenter import OnnxruntimeCudaSegmenter

    return OnnxruntimeCudaSegmenter(model=str(model))


class FailingSession:
    """A session on a GPU that fails at the first picture."""

    def __init__(self, path: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> None:
        assert providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})]

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image", shape=[1, 48, 64, 3], type="tensor(uint8)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="logits", shape=[1, 48, 64, 1], type="tensor(float)")]

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")


NO_DRIVER = "no NVIDIA driver (libcuda.so.1 cannot be loaded)"
ALL = {"tensorrt", "tensorrt_rtx", "cuda.bindings", "onnxruntime", "openvino", "keras"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with these packages, this to say of its GPU, and runtimes that cannot open the model."""

    def make(
        installed: set[str], gpu: str = "", broken: tuple[str, ...] = (), cuda_build: bool = True
    ) -> None:
        def opened(preset: str, name: str, progress: object, options: dict[str, Any]) -> Segmenter:
            if name in broken:
                raise ModelError(f"engine: refused by {name}")
            return cast(Segmenter, SimpleNamespace(info=SegmenterInfo(preset, (320, 320), name)))

        monkeypatch.setattr(runtimes, "_is_installed", lambda package: package in installed)
        monkeypatch.setattr(runtimes, "_holds", lambda package, pattern: cuda_build)
        monkeypatch.setattr(runtimes, "no_gpu_reason", lambda: gpu)
        monkeypatch.setattr(runtimes, "_open", opened)

    return make


@pytest.mark.parametrize(
    ("installed", "gpu", "broken", "cuda_build", "chosen", "passed_over"),
    [
        (ALL, "", (), True, "tensorrt", {}),
        (ALL - {"tensorrt"}, "", (), True, "rtx", {"tensorrt": "tensorrt is not installed"}),
        (ALL, "", ("tensorrt",), True, "rtx", {"tensorrt": "engine: refused by tensorrt"}),
        (
            ALL - {"cuda.bindings"},
            "",
            (),
            True,
            "onnxruntime-cuda",
            {"rtx": "cuda.bindings is not installed"},
        ),
        (ALL, "", ("tensorrt", "rtx"), False, "openvino", {"onnxruntime-cuda": "without CUDA"}),
        (ALL, NO_DRIVER, (), True, "openvino", {"tensorrt": NO_DRIVER, "onnxruntime-cuda": NO_DRIVER}),
        ({"openvino", "onnxruntime"}, NO_DRIVER, (), False, "openvino", {"rtx": "tensorrt_rtx is not inst"}),
        ({"onnxruntime"}, NO_DRIVER, (), False, "onnxruntime", {"openvino": "Try: pip install openvino"}),
        ({"keras"}, NO_DRIVER, (), False, "keras", {"onnxruntime": r"endostream[onnxruntime]"}),
    ],
)
def test_auto_takes_the_best_that_works_and_says_why_not_the_others(
    machine: Callable[..., None],
    installed: set[str],
    gpu: str,
    broken: tuple[str, ...],
    cuda_build: bool,
    chosen: str,
    passed_over: dict[str, str],
) -> None:
    machine(installed, gpu, broken, cuda_build)
    info = open_preset("resunet-small").info
    assert info.runtime == chosen
    assert list(info.passed_over) == list(RUNTIMES)[: list(RUNTIMES).index(chosen)]
    for name, reason in passed_over.items():
        assert reason in info.passed_over[name]


def test_auto_with_nothing_installed_has_the_line_to_install(machine: Callable[..., None]) -> None:
    machine(set(), NO_DRIVER)
    with pytest.raises(ModelError, match=r"runtime auto: none is installed\. Try: pip install openvino"):
        open_preset("resunet-small")


def test_what_the_last_resort_says_of_the_model_is_said(machine: Callable[..., None]) -> None:
    machine(ALL, NO_DRIVER, ("openvino",))
    with pytest.raises(ModelError, match="refused by openvino"):
        open_preset("resunet-small")


@pytest.mark.parametrize(
    ("runtime", "installed", "gpu", "says"),
    [
        (
            "tensorrt",
            ALL - {"tensorrt"},
            "",
            r"tensorrt is not installed\. Try: pip install 'endostream\[tensorrt\]'",
        ),
        ("rtx", ALL - {"tensorrt_rtx"}, NO_DRIVER, r"Try: pip install 'endostream\[tensorrt-rtx\]'"),
        ("rtx", ALL, NO_DRIVER, r"no NVIDIA driver .* Try: sudo ubuntu-drivers install"),
        ("onnxruntime-cuda", ALL, NO_DRIVER, r"no NVIDIA driver .* or --runtime openvino"),
        ("openvino", ALL - {"openvino"}, "", r"openvino is not installed\. Try: pip install openvino"),
        ("keras", set(), "", r"Try: pip install 'endostream\[tensorflow\]'"),
    ],
)
def test_a_runtime_asked_for_is_never_replaced_and_its_absence_has_the_line_to_install(
    machine: Callable[..., None], runtime: str, installed: set[str], gpu: str, says: str
) -> None:
    machine(installed, gpu)
    with pytest.raises(ModelError, match=rf"^runtime {runtime}: .*{says}") as caught:
        open_preset("resunet-small", runtime)
    assert caught.value.exit_code == 4


def test_finding_out_that_there_is_no_gpu_imports_no_runtime(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from endostream.models import cuda_device, runtimes\n"
        "cuda_device.DRIVER_LIBRARY = 'libnone.so'\n"
        "print([runtimes.why_not(name)[:4] for name in runtimes.RUNTIMES if runtimes.RUNTIMES[name].on_gpu])\n"
        "heavy = ('tensorrt', 'tensorrt_rtx', 'cuda.bindings', 'onnxruntime', 'openvino', 'keras')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    reasons, imported = done.stdout.splitlines()
    assert "''" not in reasons
    assert imported == "[]"


def test_a_segmenter_without_a_choice_refuses_a_runtime() -> None:
    with pytest.raises(ConfigError, match="runtime: rtx; segmenter fcm has no runtime to choose"):
        load_segmenter("fcm", runtime="rtx")


def test_two_different_runtimes_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"runtime: rtx, and keras in infer\.options"):
        load_segmenter("resunet-small", {"runtime": "keras"}, runtime="rtx")


def test_an_unknown_runtime_is_named() -> None:
    known = "auto, tensorrt, rtx, onnxruntime-cuda, openvino, onnxruntime, keras"
    with pytest.raises(ConfigError, match=f"runtime: 'caffe'; expected {known}"):
        open_preset("resunet-small", "caffe")


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
