"""One setting of the schema: how it is declared, and what can be said of it in words.

Separate from the schema so that error messages, ``endostream config --schema`` and the commented YAML draw on
the same sentence, unit and range. It knows nothing of files or of which settings there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A section of the configuration: frozen, no unknown keys, no value taken for another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def setting(
    default: Any, sentence: str, unit: str = "", expected: str = "", example: str = "", **bounds: Any
) -> Any:
    """Declare a setting by its default, one sentence, its unit and pydantic's bounds (ge, gt, le, lt).

    ``expected`` says in words what no bound can say; without it the words come from type and bounds. ``example`` is a
    value to try, for a message.
    """
    extra: JsonDict = {"unit": unit, "expected": expected, "example": example}
    if isinstance(default, dict):
        return Field(
            default_factory=lambda: dict(default), description=sentence, json_schema_extra=extra, **bounds
        )
    return Field(default=default, description=sentence, json_schema_extra=extra, **bounds)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting.

    Attributes:
        key: dotted, e.g. ``"capture.ring_slots"``.
        sentence: what it does.
        unit: of its number, "" where it has none.
        default: as Python holds it.
        expected: the values it takes, in words, e.g. ``"a whole number from 8 to 128"``.
        choices: the words it takes, empty if it is not a choice.
        example: a value to try, "" if none is needed.
        text: True where every value is text, so that ``--set key=123`` means the text 123.
    """

    key: str
    sentence: str
    unit: str
    default: Any
    expected: str
    choices: tuple[str, ...]
    example: str
    text: bool

    @property
    def expected_with_unit(self) -> str:
        """``expected``, and the unit unless that says it already."""
        if not self.unit or self.unit in self.expected.replace(",", "").split():
            return self.expected
        return f"{self.expected}{' ' if self.expected[-1].isdigit() else ', in '}{self.unit}"


@cache
def settings_of(model: type[BaseModel]) -> dict[str, Setting]:
    """All settings of ``model`` and its sections by dotted key, in the order they are declared."""
    schema = model.model_json_schema()
    return {item.key: item for item in _walk(model, schema, schema["properties"], "")}


def sections_of(model: type[BaseModel], prefix: str = "") -> dict[str, type[BaseModel]]:
    """All sections by dotted key, ``""`` the root itself, each before the sections inside it."""
    found = {prefix.rstrip("."): model}
    for name, info in model.model_fields.items():
        section = _section(info)
        if section is not None:
            found |= sections_of(section, f"{prefix}{name}.")
    return found


def _section(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, else None."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _walk(
    model: type[BaseModel], root: dict[str, Any], properties: dict[str, Any], prefix: str
) -> Iterator[Setting]:
    for name, info in model.model_fields.items():
        section = _section(info)
        if section is not None:
            yield from _walk(section, root, root["$defs"][section.__name__]["properties"], f"{prefix}{name}.")
        else:
            yield _setting(prefix + name, info, properties[name])


def _setting(key: str, info: FieldInfo, json: dict[str, Any]) -> Setting:
    kinds = json.get("anyOf", [json])
    return Setting(
        key=key,
        sentence=info.description or "",
        unit=json["unit"],
        default=info.get_default(call_default_factory=True, validated_data={}),
        expected=json["expected"] or " or ".join(_words(kind) for kind in kinds),
        choices=tuple(kinds[0].get("enum", ())),
        example=json["example"],
        text=all(kind.get("type") == "string" for kind in kinds),
    )


def _words(json: dict[str, Any]) -> str:
    """A JSON schema type with its bounds in words."""
    if "enum" in json:
        return "one of " + ", ".join(json["enum"])
    names = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "null": "null",
        "object": "KEY: VALUE pairs",
    }
    return names[json["type"]] + _range(json)


def _range(json: dict[str, Any]) -> str:
    """The bounds of a JSON schema type in words, each with the space before it."""
    low, high, above = json.get("minimum"), json.get("maximum"), json.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    words = {" above": above, " of at least": low, " up to": high}
    return "".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)
