"""From trained weights to the files that the live path runs, each behind a gate, with a card that says what
they are.

Float32 ONNX must compute what Keras does (MAX_LOGIT_DIFFERENCE, MAX_FLIPPED_SHARE); INT8, for the CPU and signed for
TensorRT, may lose MAX_DICE_LOSS of Dice per image. What fails its gate is not written (exit code 5). Needs neither
TensorFlow nor a GPU: the graph is written by ``onnx_graph.py``, the ranges are measured by ``quantise.py``.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from endostream.configs.errors import CheckFailed, ConfigError
from endostream.models.keras_segmenter import load_weights
from endostream.models.logits_segmenter import LogitsSegmenter
from endostream.models.metrics_summary import DEFINITIONS
from endostream.models.resunet import build_resunet, preset_config
from endostream.models.runtimes import open_preset
from endostream.models.transform import Transform
from endostream.models.weights_files import CARD, FILE_OF, sha256_of

from .evaluate import Evaluation, evaluate
from .kvasir import Pair, find_pairs, read_image, require_sound
from .onnx_graph import onnx_from_network
from .quantise import int8_from_onnx, signed_int8_from_onnx
from .splits import choose_split, shipped_splits

MAX_LOGIT_DIFFERENCE = 1e-3
MAX_FLIPPED_SHARE = 1e-5
MAX_DICE_LOSS = 0.005
ONNX_RUNTIMES = ("openvino", "onnxruntime")
SIGNED_RUNTIME = "onnxruntime"
"""That the signed INT8 file is measured on: it computes what the file says, as TensorRT does (``quantise.py``)."""
PARITY_PICTURES = 50
CALIBRATION_PICTURES = 300
TERMS = (
    "Trained on Kvasir-SEG (Jha et al. 2020), which is for research and education; commercial use needs its owners'"
    " permission. Research use only; not a medical device."
)
OTHER_TERMS = (
    "Those of its training data and of the weights it began with. Research use only; not a medical device."
)

Inputs = list[npt.NDArray[np.uint8]]
"""Pictures at the network's input size, uint8 H × W × 3 RGB."""
Quantise = Callable[[onnx.ModelProto, Inputs], onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, and where to.

    Attributes:
        preset: of the network.
        weights: Keras weights file of a run.
        data: data set, for calibration (its training part) and the gates (its validation part).
        split: of the data.
        out: folder for the files; those of the same name in it are replaced.
        int8: also make the INT8 files.
        runtime: that the gates but the signed file's run on, ``openvino`` or ``onnxruntime``.
    """

    preset: str
    weights: Path
    data: Path
    split: str
    out: Path
    int8: bool = True
    runtime: str = "openvino"


def export(options: ExportOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Write the preset's files and card; returns the card.

    Raises:
        ConfigError, SourceMissing: data or split that cannot be used.
        ModelError: the weights cannot be read, or a package is missing.
        CheckFailed: a gate was not passed; nothing has been written to ``options.out``.
    """
    pairs = {pair.name: pair for pair in find_pairs(options.data)}
    split, remark = choose_split(options.split, sorted(pairs), asked_for=False)
    if remark:
        say(remark)
    train, val = ([pairs[name] for name in part] for part in (split.train, split.val))
    require_sound([*train, *val], say)
    network = build_resunet(preset_config(options.preset))
    load_weights(network, options.weights)
    with tempfile.TemporaryDirectory(prefix="endostream-export-") as folder:
        made = _Export(options, network, Path(folder), val, say)
        made.float32()
        if options.int8:
            inputs = _inputs(_spread(train, CALIBRATION_PICTURES), preset_config(options.preset).input_hw)
            made.int8("int8", int8_from_onnx, inputs, options.runtime)
            made.int8("int8_signed", signed_int8_from_onnx, inputs, SIGNED_RUNTIME)
        card = made.card({"name": split.name, "train": len(train), "val": len(val)})
        _move(Path(folder), options.out)
    say(f"written to {options.out}")
    return card


class _Export:
    """One export: the files so far in a folder of its own, and what was measured of them."""

    def __init__(
        self,
        options: ExportOptions,
        network: Any,
        folder: Path,
        val: Sequence[Pair],
        say: Callable[[str], None],
    ) -> None:
        self._options, self._network, self._folder = options, network, folder
        self._val, self._say = val, say
        self._model = onnx_from_network(network)
        self._measured: dict[str, dict[str, Any]] = {}
        self._parity: dict[str, float] = {}

    def float32(self) -> None:
        """Write Keras weights and float32 ONNX, and hold the one against the other."""
        self._network.save_weights(self._folder / FILE_OF["keras"])
        onnx.save(self._model, self._folder / FILE_OF["fp32"])
        segmenter = self._open("fp32", self._options.runtime)
        hw = segmenter.info.input_hw
        self._parity = parity(self._network, segmenter, _inputs(_spread(self._val, PARITY_PICTURES), hw))
        self._say(
            "parity with Keras: " + ", ".join(f"{name} {value:.2g}" for name, value in self._parity.items())
        )
        require_parity(self._parity)
        self._measure("fp32", segmenter)

    def int8(self, kind: str, quantise: Quantise, inputs: Inputs, runtime: str) -> None:
        """Write an INT8 file, and hold its Dice on ``runtime`` against float32's."""
        onnx.save(quantise(self._model, inputs), self._folder / FILE_OF[kind])
        self._measure(kind, self._open(kind, runtime))
        loss = self._measured["fp32"]["dice_per_image"] - self._measured[kind]["dice_per_image"]
        if loss > MAX_DICE_LOSS:
            raise CheckFailed(f"{kind}: Dice per image {loss:.4f} lower; expected at most {MAX_DICE_LOSS}")

    def card(self, split: dict[str, Any]) -> dict[str, Any]:
        """Write and return the card."""
        run = self._options.weights.parent / "recipe.json"
        names = [FILE_OF[kind] for kind in ("keras", *self._measured)]
        on_kvasir = split["name"] in shipped_splits()
        card = {
            "preset": self._options.preset,
            "parameters": int(self._network.count_params()),
            "input": "image: uint8, 1 x H x W x 3, RGB, 0 to 255",
            "output": "logits: float32, 1 x H x W x 1; above 0 is polyp",
            "input_hw": list(preset_config(self._options.preset).input_hw),
            "sha256": {name: sha256_of(self._folder / name) for name in names},
            "data": "Kvasir-SEG" if on_kvasir else self._options.data.name,
            "split": split,
            "training": json.loads(run.read_text()) if run.is_file() else None,
            "commit": _commit(),
            "exported": datetime.now(UTC).date().isoformat(),
            "parity_with_keras": self._parity,
            "metrics_on_validation_pictures": self._measured,
            "definitions": DEFINITIONS,
            "terms": TERMS if on_kvasir else OTHER_TERMS,
        }
        (self._folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
        return card

    def _measure(self, kind: str, segmenter: LogitsSegmenter) -> None:
        found: Evaluation = evaluate(segmenter, self._val, self._options.data)
        segmenter.close()
        self._measured[kind] = {**found.summary, "runtime": segmenter.info.runtime}
        self._say(
            f"{kind}: Dice per image {found.summary['dice_per_image']:.4f}, {found.speed['p50_ms']:.1f} ms"
        )

    def _open(self, kind: str, runtime: str) -> LogitsSegmenter:
        path = str(self._folder / FILE_OF[kind])
        if runtime not in ONNX_RUNTIMES:
            raise ConfigError(f"--runtime: {runtime!r}; expected one of {', '.join(ONNX_RUNTIMES)}")
        opened = open_preset(self._options.preset, runtime, model=path, precision=kind)
        assert isinstance(opened, LogitsSegmenter)
        return opened


def parity(network: Any, segmenter: LogitsSegmenter, inputs: Inputs) -> dict[str, float]:
    """Largest difference of a logit, and the share of pixels whose mask differs, over some pictures."""
    largest, flipped, pixels = 0.0, 0, 0
    for image in inputs:
        ours = np.asarray(network.predict_on_batch(image[None]), np.float32)[0, :, :, 0]
        theirs = segmenter.logits(image)
        largest = max(largest, float(np.abs(ours - theirs).max()))
        flipped += int(np.count_nonzero((ours > 0) != (theirs > 0)))
        pixels += ours.size
    return {"max_logit_difference": largest, "flipped_share": flipped / pixels}


def require_parity(found: dict[str, float]) -> None:
    """Raise CheckFailed unless ``parity``'s answer is inside both limits."""
    limits = {"max_logit_difference": MAX_LOGIT_DIFFERENCE, "flipped_share": MAX_FLIPPED_SHARE}
    for name, limit in limits.items():
        if not found[name] <= limit:
            raise CheckFailed(f"ONNX against Keras: {name} {found[name]:.3g}; expected at most {limit:g}")


def _inputs(pairs: Sequence[Pair], input_hw: tuple[int, int]) -> Inputs:
    images = (read_image(pair.image) for pair in pairs)
    return [
        Transform.of_picture((image.shape[0], image.shape[1]), input_hw).forward(image) for image in images
    ]


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Up to ``count`` pairs, evenly spread over the list."""
    places = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)
    return [pairs[place] for place in places]


def _move(folder: Path, out: Path) -> None:
    """Put the finished files in place, the card last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda each: each.name == CARD):
            beside = out / f".{path.name}.new"
            beside.write_bytes(path.read_bytes())
            beside.replace(out / path.name)
    except OSError as error:
        raise ConfigError(f"--out: {out}; cannot be written ({error.strerror})") from error


def _commit() -> str | None:
    """Of the checkout this runs from, None outside one."""
    try:
        here = Path(__file__).resolve().parent
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
