"""Write a configuration and its schema for people: YAML with comments, and the list of all settings.

Separate from ``load.py`` because it only formats. What it writes as YAML can be read back as a configuration.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from .load import LoadedConfig, values_of
from .schema import Config
from .setting import Setting, sections_of, settings_of

_HEADER = "# Every setting of endostream at its default. A file of your own need only say what differs.\n"
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def config_yaml(loaded: LoadedConfig) -> str:
    """The merged configuration as YAML, where each value came from beside it."""
    flat: list[tuple[str, Any, str]] = []
    for key, value in values_of(loaded.config).items():
        if isinstance(value, dict) and value:
            flat += [(name, leaf, loaded.origins[name]) for name, leaf in _leaves(key, value)]
        else:
            flat.append((key, value, loaded.origins[key]))
    width = max(len(_line(key, value)) for key, value, _ in flat)
    return _sections(flat, lambda key, value, origin: f"{_line(key, value):<{width}}  # {origin}\n")


def config_json(loaded: LoadedConfig) -> str:
    """The same as JSON: ``{"config": {…}, "origins": {"a.b": "default"}}``."""
    values = {"config": loaded.config.model_dump(mode="json"), "origins": loaded.origins}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def template_yaml() -> str:
    """All settings at their defaults as YAML, each under its sentence; packaged as ``default.yaml``."""
    settings = settings_of(Config)

    def entry(key: str, value: Any, _: str) -> str:
        setting = settings[key]
        indent = "  " * key.count(".")
        return f"{indent}# {setting.sentence} {_allowed(setting)}\n{_line(key, value)}\n"

    flat = [(key, setting.default, "") for key, setting in settings.items()]
    return _HEADER + _sections(flat, entry, blank=True)


def schema_text() -> str:
    """All settings, one paragraph each: key, default, sentence, allowed values with their unit."""
    return "".join(
        f"{each.key} = {_scalar(each.default)}\n    {each.sentence} {_allowed(each)}\n"
        for each in settings_of(Config).values()
    )


def schema_json() -> str:
    """All settings as JSON: a list of ``{"key", "sentence", "unit", "default", "expected", "choices"}``."""
    names = ("key", "sentence", "unit", "default", "expected", "choices")
    rows = [{name: getattr(each, name) for name in names} for each in settings_of(Config).values()]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _allowed(setting: Setting) -> str:
    """The values a setting takes, with their unit, in square brackets."""
    return f"[{setting.expected_with_unit}]"


def _leaves(key: str, value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, below in value.items():
        if isinstance(below, dict) and below:
            yield from _leaves(f"{key}.{name}", below)
        else:
            yield f"{key}.{name}", below


def _sections(
    flat: list[tuple[str, Any, str]], entry: Callable[[str, Any, str], str], blank: bool = False
) -> str:
    """The entries under the headings of their sections, each heading once."""
    docs = {key: (section.__doc__ or "").replace("``", "") for key, section in sections_of(Config).items()}
    text = ""
    open_path: tuple[str, ...] = ()
    for key, value, origin in flat:
        path = tuple(key.split(".")[:-1])
        for depth, name in enumerate(path):
            if path[: depth + 1] != open_path[: depth + 1]:
                doc = docs.get(".".join(path[: depth + 1]), "")
                gap = "\n" if blank or (depth == 0 and text) else ""
                text += f"{gap}{'  ' * depth}{name}:{f'  # {doc}' if blank and doc else ''}\n"
        open_path = path
        text += entry(key, value, origin)
    return text


def _line(key: str, value: Any) -> str:
    indent = "  " * key.count(".")
    return f"{indent}{_scalar(key.rpartition('.')[2])}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value in YAML that YAML 1.1 and 1.2 read alike: only plain words go without quotes."""
    if isinstance(value, str) and _WORD.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
