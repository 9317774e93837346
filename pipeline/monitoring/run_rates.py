"""What two records of a run, taken at different times, say of the time between them: rates, load, delays.

Separate from what is drawn (``top_view.py``), so that scripts get the same numbers. It reads plain data, asks nobody.
"""

from typing import Any

from .series import SeriesNs, series_percentile_ns, series_since

DELAYS = ("video_delay", "annotation_delay", "release_lateness", "present_interval")
Record = dict[str, Any]
"""As ``metrics.py`` makes it."""
EMPTY: SeriesNs = {"n": 0, "sum_ns": 0, "max_ns": 0, "buckets": []}


def summary_ms(series: SeriesNs) -> dict[str, float | int | None]:
    """n, p50, p90, p99, p99.9 and maximum in milliseconds, None where nothing was measured."""
    shares = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
    found = {name: _ms(series_percentile_ns(series, share)) for name, share in shares.items()}
    return {"n": series["n"], **found, "max": _ms(series["max_ns"]) if series["n"] else None}


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else round(value_ns / 1e6, 4)


def rates_between(newer: Record, older: Record) -> dict[str, Any]:
    """Of the time between two records of one run::

    seconds                          between the two
    captured_fps, presented_fps, masks_per_s
    delays {name}                    n, p50, p90, p99, p99_9, max in ms
    stages {name}                    cpu_percent (of one core, None if restarted or gone), processed_per_s,
                                     service, wait: as the delays
    links {name}                     sent_per_s, dropped_per_s
    sinks {label}                    written_per_s, dropped_per_s, write_delay: as the delays
    """
    seconds = max((newer["at_ns"] - older["at_ns"]) / 1e9, 1e-9)
    return {
        "seconds": round(seconds, 3),
        "captured_fps": _rate(newer, older, seconds, "frames", "captured"),
        "presented_fps": _rate(newer, older, seconds, "frames", "presented"),
        "masks_per_s": _rate(newer, older, seconds, "masks", "computed"),
        "delays": {name: _since(newer, older, "delays", name) for name in DELAYS},
        "stages": {name: _stage(newer, older, seconds, name) for name in newer["stages"]},
        "links": {
            name: {
                "sent_per_s": _rate(newer, older, seconds, "links", name, "sent"),
                "dropped_per_s": _drop_rate(newer, older, seconds, "links", name),
            }
            for name in newer["links"]
        },
        "sinks": {
            label: {
                "written_per_s": _rate(newer, older, seconds, "sinks", label, "written"),
                "dropped_per_s": _drop_rate(newer, older, seconds, "sinks", label),
                "write_delay": _since(newer, older, "sinks", label, "write_delay"),
            }
            for label in newer["sinks"]
        },
    }


def _at(record: Record, *path: str, otherwise: Any = 0) -> Any:
    """What lies at ``path``; a record from before a sink was there has none."""
    value: Any = record
    for key in path:
        if key not in value:
            return otherwise
        value = value[key]
    return value


def _rate(newer: Record, older: Record, seconds: float, *path: str) -> float:
    return round(float(_at(newer, *path) - _at(older, *path)) / seconds, 2)


def _drop_rate(newer: Record, older: Record, seconds: float, *path: str) -> float:
    now, before = (sum(_at(record, *path, "dropped", otherwise={}).values()) for record in (newer, older))
    return round(float(now - before) / seconds, 2)


def _since(newer: Record, older: Record, *path: str) -> dict[str, float | int | None]:
    return summary_ms(series_since(_at(newer, *path, otherwise=EMPTY), _at(older, *path, otherwise=EMPTY)))


def _stage(newer: Record, older: Record, seconds: float, name: str) -> dict[str, Any]:
    now, before = newer["stages"][name], _at(older, "stages", name, otherwise={})
    same = now["pid"] is not None and now["pid"] == before.get("pid") and now["cpu_s"] is not None
    spent_s = now["cpu_s"] - before["cpu_s"] if same and before["cpu_s"] is not None else None
    return {
        "cpu_percent": None if spent_s is None else round(100 * spent_s / seconds, 1),
        "processed_per_s": _rate(newer, older, seconds, "stages", name, "processed"),
        "service": _since(newer, older, "stages", name, "service"),
        "wait": _since(newer, older, "stages", name, "wait"),
    }
