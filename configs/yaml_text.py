"""Read YAML text into plain values that remember their line. Separate from the schema.

The YAML read is version 1.2's core schema: ``off``, ``yes`` and ``25:30`` are text, only ``true`` and
``false`` are truth values. PyYAML alone reads 1.1, where ``deinterlace: off`` means false. Duplicate keys,
anchors, aliases and several documents are refused. Nothing is executed or fetched.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .errors import ConfigError

MAX_BYTES = 1 << 20
"""A larger file is not a configuration; reading stops there."""

KeyPath = tuple[str, ...]
"""Where a value lies: the keys from the root to it."""


class Located(NamedTuple):
    """A value and the line, from 1, that it stands on."""

    value: Any
    line: int


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema, and without anchors."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML fills it by its own class method

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _error("an anchor or alias (& or *)", event.start_mark)
        return super().compose_node(parent, index)


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_WHOLE = r"(?:0|[1-9][0-9]*)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", rf"[-+]?{_WHOLE}|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", rf"[-+]?(?:\.[0-9]+|{_WHOLE}\.?[0-9]*)(?:[eE][-+]?[0-9]+)?", list("-+0123456789.")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def parse_value(text: str) -> Any:
    """The value of one YAML scalar or flow collection, as in ``--set a.b=VALUE``.

    Raises:
        ConfigError: not YAML.
    """
    try:
        return yaml.load(text, _CoreLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{text!r}; cannot be read as a YAML value ({_problem(error)})") from error


def read_settings(file: Path) -> dict[KeyPath, Located]:
    """Every value of a YAML file by its key path; ``a.b: 1`` and ``a: {b: 1}`` are the same.

    Raises:
        ConfigError: no such file, not readable, not YAML, not a mapping, empty, or a key twice.
    """
    text = _read_text(file)
    if "\0" in text:
        raise ConfigError(f"{file.name}: a binary file; expected YAML text")
    try:
        return _settings(text, file.name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file.name}:{mark.line + 1}" if mark is not None else file.name
        raise ConfigError(f"{where}: {_problem(error)}; expected KEY: VALUE, indented with spaces") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file.name}: {_problem(error)}; expected YAML text") from error


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"config: {file}; cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"config: {file}; expected a YAML file of at most {MAX_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"config: {file}; expected YAML text in UTF-8") from error


def _settings(text: str, name: str) -> dict[KeyPath, Located]:
    loader = _CoreLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{name}: nothing in it; expected settings. Try: endostream config --template")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: not KEY: VALUE; expected sections")
        found: dict[KeyPath, Located] = {}
        for path, located in _leaves(loader, node, (), name):
            if path in found:
                first = found[path].line
                raise ConfigError(f"{name}:{located.line}: {'.'.join(path)}; given already on line {first}")
            found[path] = located
        return found
    finally:
        loader.dispose()


def _leaves(
    loader: _CoreLoader, node: yaml.MappingNode, above: KeyPath, name: str
) -> Iterator[tuple[KeyPath, Located]]:
    """The values below ``node`` that are not mappings themselves; null and {} come as they are."""
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ConfigError(f"{name}:{line}: {key!r}; expected the name of a setting before the colon")
        path = (*above, *key.split("."))
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _leaves(loader, value_node, path, name)
        else:
            yield path, Located(loader.construct_object(value_node, deep=True), line)


def _problem(error: Exception) -> str:
    """What PyYAML found, in one line."""
    text = getattr(error, "problem", None) or str(error) or type(error).__name__
    if "'\\t'" in text:
        return "a tab"
    return " ".join(text.split())
