"""A profile as data: from measured runs to the JSON that reports, comparisons and budgets are made of.

Separate from measuring and from every page. All durations are milliseconds. Its keys::

    schema, kind ("endostream-profile"), created_utc, command, options, environment, words, cells, budgets
    cells[]:  name, settings, measurer, status, period_ms, series{}, counted, worst{}, runs[]
    series{}: n, p50, p90, p99, p99_9, max, jitter, interval{figure: [low, high] or null}, few[figure], draws{}, cdf,
              by_run[], negative, definition
    runs[]:   repeat, command, exit_code, errors, report, counted, whole, startup, window_s, course{}, machine{}

A series that has no value is not there: an absent series is nothing, never 0. ``measurer`` says whose stamps a cell's
series come from; another measurer feeds a ``RunDigest`` under names of its own and becomes a cell, or series of one,
in the same shape.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from endostream.configs.errors import ConfigError, SinkError

from .bootstrap import FIGURES, Pooled, draws_ns, figures_ns, interval_ns, pool, thinned_ns, too_few
from .digest import SeriesDigest
from .machine_watch import Sample
from .measure import Counted, Measured
from .series import DEFINITIONS
from .shape import wrong_in

SCHEMA = 1
KIND = "endostream-profile"
OWN_STAMPS = "endostream's own stamps"
_COURSE_COLUMNS = ("bin", "n", "min", "p50", "p99", "max")
_CDF_SHARES = np.concatenate((np.linspace(0, 0.99, 100), 1 - np.geomspace(0.01, 1e-6, 60), [1.0]))
_REPORT_KEYS = (
    *(
        "status",
        "exit_code",
        "mode",
        "segmenter",
        "runtime",
        "presenting_sink",
        "duration_s",
        "throughput_fps",
    ),
    *("masks_per_s", "longest_freeze_ms", "frames", "masks", "mask_state", "video_delay_ms"),
    *("annotation_delay_ms", "release_lateness_ms", "stages", "faults"),
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run: what was measured, and what else is known of it.

    Attributes:
        facts: repeat, command, exit code and the like, as they go into the JSON.
        report: of the run, {} if it gave none.
        started_ns: monotonic, just before its command was started; None if nobody knows.
    """

    measured: Measured
    facts: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    started_ns: int | None = None


def cell_json(
    name: str, settings: dict[str, Any], runs: Sequence[RunResult], measurer: str = OWN_STAMPS
) -> dict[str, Any]:
    """One cell: its runs put together."""
    names = sorted({series for run in runs for series in run.measured.digest.series}, key=_order)
    periods_ns = [run.measured.window.period_ns for run in runs]
    period_ns = next((period_ns for period_ns in periods_ns if period_ns is not None), None)
    return {
        "name": name,
        "settings": settings,
        "measurer": measurer,
        "status": "done" if runs and all(run.facts.get("exit_code", 0) == 0 for run in runs) else "failed",
        "period_ms": None if period_ns is None else period_ns / 1e6,
        "series": {series: _series_json(series, runs) for series in names},
        "counted": counted_json(_sum([run.measured.counted for run in runs])),
        "worst": {delay: _worst(delay, runs) for delay in ("video_delay", "annotation_delay")},
        "runs": [_run_json(run) for run in runs],
    }


def series_json(digests: Sequence[SeriesDigest], definition: str = "") -> dict[str, Any] | None:
    """Figures, intervals, curve of one series over several runs; None without a value."""
    pooled = pool(digests)
    if pooled is None:
        return None
    n, draws = int(pooled.counts.sum()), draws_ns(pooled)
    return {
        "n": n,
        **{name: _ms(value) for name, value in figures_ns(pooled).items()},
        "interval": {
            name: None if draws is None else [_ms(end) for end in interval_ns(draws[name])]
            for name in FIGURES
        },
        "few": [name for name in FIGURES if too_few(n, name)],
        "draws": None
        if draws is None
        else {name: [_ms(value) for value in thinned_ns(draws[name])] for name in FIGURES},
        "cdf": _cdf(pooled),
        "by_run": [_figures_of(digest) for digest in digests],
        "negative": sum(digest.negative for digest in digests),
        "definition": definition,
    }


def _series_json(name: str, runs: Sequence[RunResult]) -> dict[str, Any] | None:
    digests = [run.measured.digest.series[name] for run in runs if name in run.measured.digest.series]
    return series_json(digests, DEFINITIONS.get(name, ""))


def _figures_of(digest: SeriesDigest) -> dict[str, float] | None:
    pooled = pool([digest])
    if pooled is None:
        return None
    return {"n": int(pooled.counts.sum())} | {name: _ms(ns) for name, ns in figures_ns(pooled).items()}


def _cdf(pooled: Pooled) -> dict[str, list[float]]:
    """At most 161 points of the distribution, close together near 1."""
    cumulative = np.cumsum(pooled.counts) / pooled.counts.sum()
    places = np.unique(np.minimum(np.searchsorted(cumulative, _CDF_SHARES), len(cumulative) - 1))
    top_ns = max(int(maxima.max()) for maxima in pooled.maxima_ns)
    return {
        "ms": [_ms(min(int(pooled.edges_ns[place]), top_ns)) for place in places],
        "share": [round(float(cumulative[place]), 7) for place in places],
    }


def counted_json(counted: Counted) -> dict[str, Any]:
    """Frames by what became of them."""
    return {
        "presented": counted.presented,
        "dropped": dict(counted.dropped),
        "not_logged": counted.not_logged,
        "synthetic": counted.synthetic,
        "masks_presented": counted.masks,
        "mask_state": dict(counted.states),
        "deadline_misses": counted.deadline_misses,
    }


def _sum(parts: Sequence[Counted]) -> Counted:
    whole = Counted(dropped=Counter(), states=Counter())
    for part in parts:
        whole.presented += part.presented
        whole.synthetic += part.synthetic
        whole.not_logged += part.not_logged
        whole.masks += part.masks
        whole.dropped += part.dropped
        whole.states += part.states
    misses = [part.deadline_misses for part in parts if part.deadline_misses is not None]
    whole.deadline_misses = sum(misses) if misses else None
    return whole


def _worst(delay: str, runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """The worst frames of all runs, the worst first, each with the run it is of."""
    begin = "capture_ns" if delay == "video_delay" else "mask_capture_ns"
    rows = [
        {"repeat": run.facts.get("repeat", number + 1), **row}
        for number, run in enumerate(runs)
        for row in run.measured.worst.get(delay, [])
    ]
    rows.sort(key=lambda row: int(row["present_ns"] or 0) - int(row[begin] or 0), reverse=True)
    return rows[:10]


def _run_json(run: RunResult) -> dict[str, Any]:
    measured = run.measured
    return {
        **run.facts,
        "report": {key: run.report[key] for key in _REPORT_KEYS if key in run.report},
        "counted": counted_json(measured.counted),
        "whole": counted_json(measured.whole),
        "startup": {
            "first_picture_s": _since(run.started_ns, measured.first_present_ns),
            "first_mask_s": _since(run.started_ns, measured.first_mask_ns),
        },
        "window_s": round(measured.digest.duration_s, 6),
        "course": {
            name: {
                "bins": digest.course.bins,
                **dict(zip(_COURSE_COLUMNS, map(list, zip(*digest.course.rows, strict=True)), strict=True)),
            }
            for name, digest in measured.digest.series.items()
            if digest.course.rows
        },
        "machine": _columns(run.samples),
    }


def _columns(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    names = sorted({name for sample in samples for name in sample}, key=lambda name: (name != "at_s", name))
    return {name: [sample.get(name) for sample in samples] for name in names}


def _since(started_ns: int | None, then_ns: int | None) -> float | None:
    return None if started_ns is None or then_ns is None else round((then_ns - started_ns) / 1e9, 3)


def _order(name: str) -> tuple[int, str]:
    known = list(DEFINITIONS)
    return (known.index(name) if name in known else len(known), name)


def _ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 4)


def write_profile(path: Path, profile: dict[str, Any]) -> None:
    """Write it as JSON; raises SinkError."""
    text = json.dumps(profile, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SinkError(f"profile: {path}; cannot be written ({error.strerror}). Try: --out DIR") from error


def read_profile(path: Path) -> dict[str, Any]:
    """Read one again, from its file or the folder it lies in; raises ConfigError for anything else."""
    file = path / "profile.json" if path.is_dir() else path
    try:
        profile = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"profile: {file}; cannot be read ({error}). Try: endostream profile SOURCE --out DIR"
        ) from error
    if not isinstance(profile, dict) or profile.get("kind") != KIND:
        raise ConfigError(f"profile: {file}; expected what endostream profile has written")
    if profile.get("schema") != SCHEMA:
        raise ConfigError(f"profile: {file} has schema {profile.get('schema')}; expected {SCHEMA}")
    if wrong := wrong_in(profile):
        raise ConfigError(f"profile: {file}; expected a whole one ({wrong})")
    return profile
