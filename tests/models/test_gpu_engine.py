"""On an NVIDIA GPU that TensorRT runs on: engines for this very GPU, held against ONNX Runtime on the CPU.

Each flavour that is installed and has a target for the GPU; else the tests are skipped with the reason, as is what ONNX
Runtime's CUDA provider is needed for. Run by ``make test-gpu``.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ModelError
from endostream.models import trt_segmenter
from endostream.models.runtimes import open_preset, why_not
from endostream.models.segmenter import Segmenter
from endostream.models.self_test import reference_mask, reference_picture, require_mask
from endostream.models.trt_flavour import load_flavour
from endostream.models.trt_gpu import read_gpu
from endostream.models.trt_request import ONNX_OF
from endostream.models.weights_files import FILE_OF, preset_folder, sha256_of

from .segmenter_contract import SegmenterContract, scene

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
PRESET = "resunet-small"
FLIPPED = {"fp32": 10, "fp16": 300, "int8": 1500}
"""Most pixels of 102,400 whose mask may differ from float32 on a CPU."""
MIB = 1 << 20


def skip_reason(runtime: str) -> str:
    """Why ``runtime`` cannot be tested on this machine, "" if it can."""
    if reason := why_not(runtime):
        return reason
    if runtime == "onnxruntime-cuda":
        return ""
    ahead, target = load_flavour(runtime).ahead_targets(), read_gpu().target
    return f"{runtime} has no target for {target}" if ahead and target not in ahead else ""


@pytest.fixture(scope="module", params=["tensorrt", "rtx"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := skip_reason(request.param):
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:  # one cache of engines for all: a build takes minutes
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield request.param


Open = Callable[..., Any]


@pytest.fixture
def open_it(runtime: str) -> Iterator[Open]:
    opened: list[Segmenter] = []

    def make(**options: Any) -> Any:
        opened.append(open_preset(PRESET, runtime, **options))
        return opened[-1]

    yield make
    for segmenter in opened:
        segmenter.close()


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[Segmenter]:
    segmenter = open_preset(PRESET, "onnxruntime", sure_prob=0.5)
    yield segmenter
    segmenter.close()


def require_file(precision: str) -> None:
    file = preset_folder(PRESET) / FILE_OF[ONNX_OF[precision]]
    if not file.is_file():
        pytest.skip(f"{file.name} is not shipped")


def pictures() -> list[np.ndarray]:
    """The stored frame, two of noise, and one of each plain colour."""
    plain = [np.full((320, 320, 3), level, np.uint8) for level in (0, 128, 255)]
    return [reference_picture((320, 320)), scene((320, 320), 1), scene((320, 320), 2), *plain]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_is_built_once_and_its_masks_are_those_of_the_cpu(
    open_it: Open, on_cpu: Segmenter, precision: str
) -> None:
    require_file(precision)
    told: list[int] = []
    segmenter = open_it(precision=precision, sure_prob=0.5, progress=lambda _, percent: told.append(percent))
    assert told == sorted(told)
    assert told
    assert segmenter.info.runtime.endswith(", CUDA graph")
    for shown in pictures():
        flipped = segmenter.segment(shown).mask ^ on_cpu.segment(shown).mask
        assert flipped.sum() <= FLIPPED[precision]
    again: list[int] = []
    open_it(precision=precision, progress=lambda _, percent: again.append(percent))
    assert again == []


def test_float32_probabilities_are_those_of_the_cpu(open_it: Open, on_cpu: Segmenter) -> None:
    segmenter = open_it(precision="fp32", sure_prob=0.5)
    for shown in pictures():
        ours, theirs = segmenter.segment(shown, "prob").prob, on_cpu.segment(shown, "prob").prob
        assert ours is not None
        assert theirs is not None
        assert np.abs(ours - theirs).max() < 1e-3


def test_graph_and_calls_give_the_same_bytes(open_it: Open) -> None:
    graph, calls = open_it(), open_it(cuda_graph=False, spin=True)
    assert "no CUDA graph" in calls.info.runtime
    for shown in pictures():
        assert np.array_equal(graph.segment(shown).mask, calls.segment(shown).mask)


def test_ten_thousand_frames_leave_memory_as_it_was(open_it: Open) -> None:
    import psutil
    from cuda.bindings import runtime as cuda

    segmenter = open_it(keep_warm_ms=2.0)
    shown = reference_picture((320, 320))
    first = segmenter.segment(shown).mask
    for _ in range(500):
        segmenter.segment(shown, "prob")
    free_before, rss_before = cuda.cudaMemGetInfo()[1], psutil.Process().memory_info().rss
    for _ in range(10_000):
        segmenter.segment(shown)
    assert np.array_equal(segmenter.segment(shown).mask, first)
    assert free_before - cuda.cudaMemGetInfo()[1] < MIB
    assert psutil.Process().memory_info().rss - rss_before < 8 * MIB


def test_an_engine_that_gives_another_mask_is_built_again_and_refused(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = preset_folder(PRESET) / "model.onnx"
    wrong = ~reference_mask(model, sha256_of(model), (320, 320))
    monkeypatch.setattr(trt_segmenter, "reference_mask", lambda *_: wrong)
    with pytest.raises(ModelError, match="its mask of the stored picture has Dice 0"):
        open_preset(PRESET, runtime)


FATAL = """
import sys
from endostream.models.runtimes import open_preset
from endostream.models.segmenter import SegmenterLost
from endostream.models.self_test import reference_picture
segmenter = open_preset("resunet-small", sys.argv[1])
assert segmenter._runner._context.set_tensor_address("image", 1 << 40)  # aligned, and nobody's
segmenter._runner._pass._graph = None
for _ in range(2):
    try:
        segmenter.segment(reference_picture((320, 320)))
    except SegmenterLost as error:
        print(error)
segmenter.close()
"""


def test_an_illegal_access_ends_the_segmenter_with_its_cause(runtime: str) -> None:
    command = [sys.executable, "-c", FATAL, runtime]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("resunet-small: the GPU failed: ") for line in lines)
    assert done.returncode == 0


def test_the_whole_pipeline_runs_on_it(runtime: str, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    endostream = Path(sys.executable).with_name("endostream")
    command = [str(endostream), "replay", "phantom:", "--speed", "fastest", "--runtime", runtime]
    command += ["--report", str(report), "--quiet", "--set", "infer.hang_timeout_s=30"]
    subprocess.run(command, timeout=900, check=True)
    told = json.loads(report.read_text())
    assert told["runtime"].startswith(runtime)
    assert told["frames"]["annotated"] == told["frames"]["captured"] == 250


class TestContract(SegmenterContract):
    """What every segmenter must hold."""

    @pytest.fixture(autouse=True)
    def _runtime(self, runtime: str) -> None:
        self.runtime = runtime

    def open_segmenter(self) -> Segmenter:
        return open_preset(PRESET, self.runtime, sure_prob=0.5)


class TestOnnxruntimeCuda(SegmenterContract):
    """ONNX Runtime's CUDA provider, the path where TensorRT has none."""

    @pytest.fixture(autouse=True)
    def _runtime(self) -> None:
        if reason := skip_reason("onnxruntime-cuda"):
            pytest.skip(reason)

    def open_segmenter(self) -> Segmenter:
        return open_preset(PRESET, "onnxruntime-cuda", sure_prob=0.5)

    def test_its_masks_are_those_of_the_cpu(self, segmenter: Segmenter, on_cpu: Segmenter) -> None:
        assert "CUDA fp32" in segmenter.info.runtime
        for shown in pictures():
            assert (segmenter.segment(shown).mask ^ on_cpu.segment(shown).mask).sum() <= FLIPPED["fp32"]
        model = preset_folder(PRESET) / "model.onnx"
        expected = reference_mask(model, sha256_of(model), (320, 320))
        require_mask(segmenter.segment(reference_picture((320, 320))).mask, expected, "fp32", "onnxruntime")
