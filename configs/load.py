"""Merge default, file and command line into one checked configuration that knows where each value came from.

Separate from the schema, which says what can be set. It reads one file at most and writes none; a bad setting
is an error and never replaced by a default.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import ConfigError
from .problems import problem_line
from .schema import Config
from .setting import settings_of
from .yaml_text import KeyPath, parse_value, read_settings


@dataclass(frozen=True, slots=True)
class Override:
    """A setting given on the command line: dotted key, the text given, and by which option."""

    key: str
    text: str
    origin: str = "--set"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration, and for each dotted key ``"default"``, ``"FILE:LINE"`` or the option that set it."""

    config: Config
    origins: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that somebody gave, and where."""

    value: Any
    origin: str


_Tree = dict[KeyPath, _Given]


def load_config(file: Path | None = None, overrides: Iterable[str | Override] = ()) -> LoadedConfig:
    """Merge default, then ``file``, then ``overrides`` in their order (``"a.b=c"`` or Override).

    Raises:
        ConfigError: anything that cannot be used as given; several such things come as several lines.
    """
    given: _Tree = {}
    if file is not None:
        path = find_file(file)
        for key, (value, line) in read_settings(path).items():
            _put(given, key, _Given(value, f"{path.name}:{line}"))
    for override in overrides:
        _put_override(given, override if isinstance(override, Override) else parse_override(override))
    try:
        config = Config.model_validate(_nested(given))
    except ValidationError as error:
        origins = {".".join(path): item.origin for path, item in given.items()}
        raise ConfigError("\n".join(problem_line(each, origins) for each in error.errors())) from error
    return LoadedConfig(config, _origins(config, given))


def parse_override(text: str) -> Override:
    """Take ``KEY=VALUE`` apart; raises ConfigError if it is not that."""
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--set: {text!r}; expected KEY=VALUE. Try: --set overlay.hold_ms=200")
    return Override(key.strip(), value.strip())


def find_file(file: Path) -> Path:
    """The file itself, or the packaged ``NAME.yaml`` where it is a bare name and no such file exists."""
    packaged = Path(__file__).with_name(f"{file.name or '.'}.yaml")
    if file.name == str(file) and not file.exists() and packaged.exists():
        return packaged
    return file


def values_of(config: Config) -> dict[str, Any]:
    """All values by dotted key, in the schema's order."""
    found = {}
    for key in settings_of(Config):
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        found[key] = value
    return found


def _put_override(given: _Tree, override: Override) -> None:
    """Put an override into ``given``; text that a text setting gets stays as it was typed."""
    path = tuple(override.key.split("."))
    setting = settings_of(Config).get(override.key)
    try:
        value = parse_value(override.text)
    except ConfigError as error:
        raise ConfigError(f"{override.key}: {error} ({override.origin})") from error
    if setting is not None and setting.text and not isinstance(value, str):
        value = override.text
    for below, leaf in _flat(value, path):
        _put(given, below, _Given(leaf, override.origin))


def _put(given: _Tree, path: KeyPath, item: _Given) -> None:
    """Give ``path`` a value; what was given below it or in place of a section above it goes."""
    for other in [other for other in given if other[: len(path)] == path or path[: len(other)] == other]:
        del given[other]
    given[path] = item


def _flat(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    """The leaves of a value; a mapping with keys is not a leaf."""
    if not isinstance(value, dict) or not value:
        return [(path, value)]
    return [leaf for key, below in value.items() for leaf in _flat(below, (*path, str(key)))]


def _nested(given: _Tree) -> dict[str, Any]:
    """``given`` as nested dicts; an empty section is as good as none."""
    sections = {tuple(key.split(".")) for key in settings_of(Config)}
    sections = {key[:depth] for key in sections for depth in range(1, len(key))}
    root: dict[str, Any] = {}
    for path, item in given.items():
        if path in sections and item.value is None:
            continue
        level = root
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = item.value
    return root


def _origins(config: Config, given: _Tree) -> dict[str, str]:
    """Where each setting came from; the keys inside ``infer.options`` one by one."""
    named = {".".join(path): item.origin for path, item in given.items()}
    origins: dict[str, str] = {}
    for key, value in values_of(config).items():
        below = {inner: origin for inner, origin in named.items() if inner.startswith(f"{key}.")}
        origins |= below if isinstance(value, dict) and below else {key: named.get(key, "default")}
    return origins
