"""The material of a report in the shape of 21 CFR 876.1520(b)(2): delays from a profile, a pixel comparison that is
run here, the algorithm's stand-alone figures from its card or from ``endostream evaluate --json``.

Separate from the page (``cfr_page.py``). It judges nothing but the byte identity, which is a fact.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError
from endostream.models.metrics_summary import DEFINITIONS
from endostream.models.weights_files import preset_folder, read_card

from .degradation import Degradation, measure_degradation

_SHOWN = (
    *("dice_per_image", "iou_per_image", "dice_pooled", "precision_per_image", "recall_per_image"),
    *("specificity_per_image", "boundary_f_per_image", "box_precision", "box_recall"),
)


@dataclass(frozen=True, slots=True)
class Performance:
    """Stand-alone performance of one algorithm: where the figures come from, and the figures; {} if there are none.

    Attributes:
        facts: of data, split, weights and terms, as (name, words).
        figures: by the names of ``DEFINITIONS``.
    """

    segmenter: str
    origin: str
    facts: tuple[tuple[str, str], ...]
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CfrReport:
    """All that the page shows."""

    profile: dict[str, Any]
    source: str
    degradation: Degradation
    performance: list[Performance]
    command: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """As data, the profile left out: it has a file of its own."""
        return {
            "source": self.source,
            "degradation": self.degradation.to_json(),
            "performance": [
                {"segmenter": one.segmenter, "origin": one.origin, "figures": one.figures}
                for one in self.performance
            ],
        }


def make_cfr(
    profile: dict[str, Any],
    source: str,
    options: Sequence[str],
    evaluation: dict[str, Any] | None,
    command: Sequence[str],
) -> CfrReport:
    """Run the pixel comparison and put everything together; ``evaluation`` is as ``read_evaluation`` gives it."""
    settings = own_cells(profile)[0]["settings"]
    played = [*options, "--set", f"infer.segmenter={settings['segmenter']}"]
    with tempfile.TemporaryDirectory(prefix="endostream-cfr-") as scratch:
        degradation = measure_degradation(source, played, Path(scratch) / "session")
    runtimes = {cell["settings"]["segmenter"]: cell["settings"]["runtime"] for cell in own_cells(profile)}
    performance = [performance_of(name, runtime or "", evaluation) for name, runtime in runtimes.items()]
    return CfrReport(profile, source, degradation, performance, command)


def own_cells(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of the pipeline itself; raises ConfigError if there is none."""
    cells = [cell for cell in profile["cells"] if "external" not in cell["settings"]]
    if not cells:
        has = "external programs only" if profile["cells"] else "no run"
        raise ConfigError(
            f"report: the profile has {has}; expected a cell of endostream. Try: endostream profile SOURCE"
        )
    return cells


def options_of(profile: dict[str, Any]) -> list[str]:
    """Of the profile's runs, those that a replay for the comparison needs too: all but its outputs."""
    given = list(profile["options"]["options"])
    pairs = list(zip(given[::2], given[1::2], strict=True))
    return [word for pair in pairs if pair[0] != "--sink" for word in pair]


def read_evaluation(path: Path) -> dict[str, Any]:
    """What ``endostream evaluate --json`` printed; raises ConfigError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"evaluation: {path}; cannot be read ({error}). Try: endostream evaluate --json > FILE"
        ) from error
    if not isinstance(found, dict) or "dice_per_image" not in found or "segmenter" not in found:
        raise ConfigError(f"evaluation: {path}; expected what endostream evaluate --json prints")
    return found


def performance_of(segmenter: str, runtime: str, evaluation: dict[str, Any] | None) -> Performance:
    """Figures of one segmenter: from the evaluation if that is of it, else from the card of its weights."""
    if evaluation is not None and evaluation["segmenter"] == segmenter:
        facts = [("runtime", str(evaluation.get("runtime"))), ("pictures", str(evaluation.get("images")))]
        return Performance(segmenter, "endostream evaluate", tuple(facts), figures_of(evaluation))
    card = read_card(preset_folder(segmenter)) if segmenter.isprintable() and "/" not in segmenter else {}
    by_precision = card.get("metrics_on_validation_pictures", {})
    precision = next((name for name in by_precision if runtime.endswith(name)), next(iter(by_precision), ""))
    if not precision:
        return Performance(segmenter, "", (), {})
    metrics, split = by_precision[precision], card.get("split", {})
    facts = [
        ("data", str(card.get("data"))),
        (
            "split",
            f"{split.get('name')}: trained on {split.get('train')}, these figures on {metrics.get('images')}",
        ),
        ("precision", f"{precision}, {metrics.get('runtime')}"),
        (
            "weights, sha256",
            ", ".join(f"{name} {digest[:16]}…" for name, digest in card.get("sha256", {}).items()),
        ),
        ("terms", str(card.get("terms"))),
    ]
    return Performance(segmenter, "the card of the weights", tuple(facts), figures_of(metrics))


def figures_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """What is shown of the metrics, with the two intervals."""
    shown = {name: metrics.get(name) for name in _SHOWN if name in DEFINITIONS}
    return shown | {
        name: metrics[name] for name in ("dice_per_image_ci95", "iou_per_image_ci95") if name in metrics
    }
