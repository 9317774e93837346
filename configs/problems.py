"""Say in one line what is wrong with a setting. Separate from ``load.py``: it only words what pydantic found.

A line names the key, the value, where it was given, what is allowed, and for an unknown key the nearest.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from .schema import Config
from .setting import Setting, sections_of, settings_of


def problem_line(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    """One line for one of pydantic's errors; ``origins`` says by dotted key where a value was given."""
    settings, sections = settings_of(Config), sections_of(Config)
    key = _known_part(".".join(str(part) for part in error["loc"]), settings)
    given = _origin(key, origins)
    key = key if key.isprintable() else repr(key)
    if not key:
        return str(error["ctx"]["error"]) if "ctx" in error else error["msg"]
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key ({given}); {_nearest(key, list(settings), list(sections))}"
    if key in settings:
        return _bad_value(settings[key], error["input"], given)
    names = ", ".join(sections[key].model_fields) if key in sections else "settings"
    return f"{key}: {shown(error['input'])} ({given}); expected a section with {names}"


def shown(value: Any) -> str:
    """A value as YAML would show it, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_part(key: str, settings: Mapping[str, Setting]) -> str:
    """The setting inside which ``key`` lies (a union's branch, an option's name), or ``key`` as it is."""
    parts = key.split(".")
    heads = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((head for head in heads if head in settings), key)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Where ``key``, or the first thing inside it, was given."""
    inside = (origin for name, origin in origins.items() if name.startswith(f"{key}."))
    return origins.get(key) or next(inside, "default")


def _bad_value(setting: Setting, value: Any, given: str) -> str:
    line = f"{setting.key}: {shown(value)} ({given}); expected {setting.expected_with_unit}"
    near = next(iter(get_close_matches(str(value), setting.choices, 1)), setting.example)
    return f"{line}. Try: {near}" if near else line


def _nearest(key: str, settings: list[str], sections: list[str]) -> str:
    """The keys that could stand in its place, and the one, here or elsewhere, written most like it."""
    above, _, name = key.rpartition(".")
    here = [each for each in (*settings, *sections) if each and each.rpartition(".")[0] == above]
    names = [each.rpartition(".")[2] for each in here]
    near = get_close_matches(name, names, 1)
    best = here[names.index(near[0])] if near else _elsewhere(key, settings)
    return f"expected one of {', '.join(names)}" + (f". Try: {best}" if best else "")


def _elsewhere(key: str, settings: list[str]) -> str:
    """A setting of another section with such a name, else one written alike in full, else ""."""
    by_name = {each.rpartition(".")[2]: each for each in reversed(settings)}
    near = get_close_matches(key.rpartition(".")[2], by_name, 1, 0.75)
    if near:
        return by_name[near[0]]
    return next(iter(get_close_matches(key, settings, 1)), "")
