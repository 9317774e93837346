"""The record beside an engine: what it was made of, and the checks that it still is that.

An engine runs on one flavour and version of TensorRT and one kind of GPU, and nothing in the file says which network it
is. So a JSON file lies beside it, an engine's key is made of what is in it, and both are written so that a killed build
leaves nothing that could be taken for whole. Separate from building (``trt_engine.py``): it needs no TensorRT.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endostream.configs.errors import ModelError

SCHEMA = 1
MATERIAL = ("onnx_sha256", "conversion", "flavour", "version", "targets", "gpu", "precision", "flags")
"""What a key is made of. ``conversion`` is the sum of our own code between the ONNX and TensorRT."""


class EngineRefused(ModelError):
    """An engine that is damaged, or not what is asked for, or not for this machine: it is not used."""


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An engine on disk, found sound when this was made.

    Attributes:
        path: of the engine.
        record: what its JSON says.
        origin: ``"hit"``, ``"built"``, or ``"rebuilt"`` where one was there that was refused.
        refusal: why it was, or "".
    """

    path: Path
    record: Mapping[str, Any]
    origin: str = "hit"
    refusal: str = ""


def record_path(engine: Path) -> Path:
    """Where the record of an engine lies."""
    return engine.with_suffix(".json")


def key_of(material: Mapping[str, Any]) -> str:
    """Key of an engine made of ``material``, hexadecimal."""
    made_of = {name: material[name] for name in MATERIAL}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def write_engine(path: Path, plan: bytes, record: Mapping[str, Any]) -> EngineFile:
    """Put an engine and its record in place. Until the record is there, which comes last, there is no engine.

    Raises:
        ModelError: the folder cannot be written.
    """
    whole = {
        "schema": SCHEMA,
        "engine": path.name,
        "key": key_of(record),
        **record,
        "size_bytes": len(plan),
        "sha256": hashlib.sha256(plan).hexdigest(),
    }
    whole["record_sha256"] = _own_sum(whole)
    try:
        record_path(path).unlink(missing_ok=True)
        _replace(path, plan)
        _replace(record_path(path), (json.dumps(whole, indent=2) + "\n").encode())
    except OSError as error:
        raise ModelError(
            f"engines: {path.parent}; cannot be written ({error.strerror}). Try: --out DIR, or XDG_CACHE_HOME"
        ) from error
    return EngineFile(path, whole, "built")


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_record(engine: Path) -> dict[str, Any]:
    """The record of an engine, found to be as it was written. Raises EngineRefused."""
    path = record_path(engine)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineRefused(f"engine: {engine}; no record beside it, expected {path.name}") from error
    except (OSError, ValueError) as error:
        raise EngineRefused(f"engine record: {path}; cannot be read ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise EngineRefused(f"engine record: {path}; expected a record of schema {SCHEMA}")
    if record.get("record_sha256") != _own_sum(record):
        raise EngineRefused(
            f"engine record: {path}; edited: expected the content that its record_sha256 is of"
        )
    return record


def require_plan(engine: Path, record: Mapping[str, Any]) -> bytes:
    """The engine's bytes, found to be those the record tells of. Raises EngineRefused."""
    try:
        plan = engine.read_bytes()
    except OSError as error:
        raise EngineRefused(f"engine: {engine}; cannot be read ({error.strerror})") from error
    if len(plan) != record["size_bytes"]:
        raise EngineRefused(
            f"engine: {engine}; {len(plan)} bytes, expected {record['size_bytes']} as its record says"
        )
    digest = hashlib.sha256(plan).hexdigest()
    if digest != record["sha256"]:
        raise EngineRefused(
            f"engine: {engine}; sha256 {digest[:12]}…, expected {record['sha256'][:12]}… as its record says: edited"
        )
    return plan


def require_material(engine: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise EngineRefused, naming what differs, unless the engine was made of what is wanted."""
    for name, expected in wanted.items():
        if record.get(name) != expected:
            raise EngineRefused(
                f"engine: {engine}; {name} {_short(record.get(name))}, expected {_short(expected)}"
            )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ",".join(str(each) for each in value)
    return "none" if value is None else f"{value[:12]}…" if _is_sum(value) else str(value)


def _is_sum(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _own_sum(record: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in record.items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
