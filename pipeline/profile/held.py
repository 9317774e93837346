"""What budgets are held against without measuring anew: a profile, or the report of an ordinary run (``--report``).

Separate so that a report of a run becomes a cell in one place. It has no intervals: a single run's histograms on the
board know no blocks of time.
"""

import json
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError

from .bootstrap import FIGURES
from .result import KIND, read_profile

_SERIES = ("video_delay", "annotation_delay", "release_lateness")


def cells_in(path: Path) -> list[dict[str, Any]]:
    """The cells of a profile (its file or folder), or a report as the one cell it is; raises ConfigError."""
    if path.is_dir():
        return list(read_profile(path)["cells"])
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"check: {path}; cannot be read ({error})") from error
    if isinstance(found, dict) and found.get("kind") == KIND:
        return list(read_profile(path)["cells"])
    if not isinstance(found, dict) or "video_delay_ms" not in found or "frames" not in found:
        raise ConfigError(f"check: {path}; expected a profile.json, or what --report FILE has written")
    try:
        return [cell_of_report(found)]
    except (LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"check: {path}; expected a whole report, {error} is missing or no such thing"
        ) from error


def cell_of_report(report: dict[str, Any]) -> dict[str, Any]:
    """The report of a run in the shape of a cell."""
    series = {name: report[f"{name}_ms"] for name in _SERIES}
    for stage, one in report["stages"].items():
        series |= {f"{stage}.{kind}": one[f"{kind}_ms"] for kind in ("wait", "service")}
    sources = ", ".join(source["address"] for source in report["sources"])
    return {
        "name": f"{sources}, {report['segmenter']}, {report['mode']}",
        "settings": {},
        "series": {name: _with_jitter(one) for name, one in series.items() if one is not None},
        "counted": {
            "presented": report["frames"]["presented"],
            "dropped": report["frames"]["dropped"],
            "mask_state": report["mask_state"],
            "deadline_misses": None,
        },
        "runs": [{"startup": {}}],
    }


def _with_jitter(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"jitter": round(one["p99"] - one["p50"], 4), "interval": dict.fromkeys(FIGURES)}
