"""What a profile.json must hold to be compared, checked and reported on: a file that is cut short, edited or made by
something else is told by its first wrong place, before anything is worked out of it.

Separate from ``result.py``, which writes it. Keys that nobody needs for reading are not looked at.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from .bootstrap import FIGURES

Interval = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Curve(_Part):
    ms: list[float]
    share: list[float]


class _Series(_Part):
    n: NonNegativeInt
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float
    jitter: float
    interval: dict[str, Any]
    few: list[str]
    draws: dict[str, list[float]] | None
    cdf: _Curve


class _Counted(_Part):
    presented: NonNegativeInt
    dropped: dict[str, NonNegativeInt]
    mask_state: dict[str, NonNegativeInt]
    deadline_misses: NonNegativeInt | None


class _Run(_Part):
    command: list[str]
    exit_code: int
    startup: dict[str, float | None]


class _Cell(_Part):
    name: str
    settings: dict[str, Any]
    measurer: str
    series: dict[str, _Series]
    counted: _Counted
    worst: dict[str, list[dict[str, Any]]]
    runs: list[_Run]


class _Words(_Part):
    measured: list[str]
    not_measured: list[str]


class _Options(_Part):
    options: list[str]


class _Profile(_Part):
    created_utc: str
    command: list[str]
    options: _Options
    environment: dict[str, Any]
    words: _Words
    cells: list[_Cell]


def wrong_in(profile: dict[str, Any]) -> str:
    """The first thing that is wrong with a profile, as ``cells.0.name: what``; "" for one that is whole."""
    try:
        _Profile.model_validate(profile)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    for place, cell in enumerate(profile["cells"]):
        for name, series in cell["series"].items():
            for key in ("interval", "draws"):
                if series[key] is not None and set(series[key]) != set(FIGURES):
                    return f"cells.{place}.series.{name}.{key}: expected {', '.join(FIGURES)}"
    return ""
