"""Measure any segmenter on pictures with masks: every metric, at each picture's own size, with the worst
cases.

The picture goes to the segmenter and its answer comes back through ``models/transform.py``, as in the live
path, but for the field of view: the whole picture is shown. Separate from the metrics
(``models/metrics.py``), which see arrays only, and from the pictures for people (``figures.py``).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError
from endostream.models.metrics import BoxCorners, ImageScore, score_image, soft_sums
from endostream.models.metrics_summary import DEFINITIONS, summary
from endostream.models.segmenter import ImageRgb, Mask, Segmenter
from endostream.models.transform import Transform

from .kvasir import Pair, find_pairs, read_boxes, read_image, read_mask, require_sound
from .splits import read_list

TIMED_RUNS = 100
"""Calls of ``segment`` that the speed is measured over, after the warm-up."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found: scores in the order of the pictures, the summary, and the speed."""

    scores: tuple[ImageScore, ...]
    summary: dict[str, Any]
    speed: dict[str, float]

    def as_json(self, segmenter: Segmenter) -> dict[str, Any]:
        """Everything, ready for JSON: the metrics with their definitions, each picture, what was measured."""
        info = segmenter.info
        return {
            "segmenter": info.name,
            "runtime": info.runtime,
            "weights_sha256": info.weights_sha256,
            "input_hw": list(info.input_hw),
            **self.summary,
            "speed": self.speed,
            "definitions": DEFINITIONS,
            "per_image": [
                {"name": each.name, "dice": each.counts.dice, "iou": each.counts.iou} for each in self.scores
            ],
        }


def pairs_to_evaluate(data: Path, list_file: Path | None, say: Callable[[str], None]) -> list[Pair]:
    """The pairs under ``data``, or those of a list, in its order.

    Raises:
        SourceMissing: no data, or damaged; each fault has been said.
        ConfigError: the list cannot be read, or names a picture that is not there.
    """
    pairs = {pair.name: pair for pair in find_pairs(data)}
    names = sorted(pairs) if list_file is None else read_list(list_file)
    absent = [name for name in names if name not in pairs]
    if absent:
        raise ConfigError(
            f"list: {list_file}; {len(absent)} of {len(names)} pictures are not in {data}, the first {absent[0]}"
        )
    chosen = [pairs[name] for name in names]
    require_sound(chosen, say)
    return chosen


def evaluate(segmenter: Segmenter, pairs: Sequence[Pair], data: Path) -> Evaluation:
    """Score every pair, and time the segmenter."""
    boxes = read_boxes(data)
    segmenter.warm_up()
    scores = tuple(score_pair(segmenter, pair, boxes.get(pair.name)) for pair in pairs)
    return Evaluation(scores, summary(scores), measure_speed(segmenter, read_image(pairs[0].image)))


def score_pair(segmenter: Segmenter, pair: Pair, boxes: list[BoxCorners] | None = None) -> ImageScore:
    """Score one pair at its own size; the soft sums at the segmenter's input size."""
    image, truth = read_image(pair.image), read_mask(pair.mask)
    transform = Transform.of_picture((truth.shape[0], truth.shape[1]), segmenter.info.input_hw)
    prob = segmenter.segment(transform.forward(image), "prob").prob
    assert prob is not None  # the protocol's promise for output="prob"
    soft = soft_sums(prob, transform.forward_mask(truth))
    return score_image(pair.name, transform.inverse_prob(prob), truth, soft=soft, boxes=boxes)


def predict_mask(segmenter: Segmenter, image_rgb: ImageRgb) -> Mask:
    """The mask of a picture (uint8, H × W × 3, RGB) at its own size."""
    transform = Transform.of_picture((image_rgb.shape[0], image_rgb.shape[1]), segmenter.info.input_hw)
    prob = segmenter.segment(transform.forward(image_rgb), "prob").prob
    assert prob is not None
    return np.asarray(transform.inverse_prob(prob) > 0.5, np.bool_)


def measure_speed(segmenter: Segmenter, image_rgb: ImageRgb) -> dict[str, float]:
    """Time of ``segment`` alone, for the mask, one picture after another; resizing and video are not in it."""
    transform = Transform.of_picture((image_rgb.shape[0], image_rgb.shape[1]), segmenter.info.input_hw)
    shown = transform.forward(image_rgb)
    times_ms: list[float] = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        segmenter.segment(shown)
        times_ms.append((time.perf_counter() - started) * 1e3)
    p50, p99 = _percentiles(np.array(times_ms))
    return {"runs": TIMED_RUNS, "p50_ms": p50, "p99_ms": p99, "fps": 1e3 / p50}


def _percentiles(times_ms: npt.NDArray[np.float64]) -> tuple[float, float]:
    p50, p99 = np.percentile(times_ms, (50, 99))
    return float(p50), float(p99)
