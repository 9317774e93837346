"""How KIND[:PATH] is read, and what is said where it cannot be."""

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.sink import (
    SINKS,
    SinkContext,
    SinkSpec,
    check_sink,
    open_sink,
    parse_sink,
    sink_class,
)


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("null", "null", ""),
        ("window", "window", ""),
        ("video:o.mp4", "video", "o.mp4"),
        ("jsonl:C:/a b:c.jsonl", "jsonl", "C:/a b:c.jsonl"),
        ("png:folder/", "png", "folder/"),
    ],
)
def test_kind_and_path_are_taken_apart_at_the_first_colon(text: str, kind: str, path: str) -> None:
    assert parse_sink(text) == SinkSpec(kind, path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "o.mp4",
            r"sink: 'o.mp4'; expected KIND\[:PATH\] with KIND one of video, jsonl, trace, png, window, null",
        ),
        ("", r"sink: ''; expected KIND\[:PATH\]"),
        ("VIDEO:o.mp4", r"sink: 'VIDEO:o.mp4'; expected KIND"),
        ("video", "sink: 'video'; video needs a path. Try: --sink video:PATH"),
        ("video:", "video needs a path"),
        ("null:x", "sink: 'null:x'; null takes no path"),
        ("window:x", "window takes no path"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sink(text)


@pytest.mark.parametrize("kind", SINKS)
def test_every_registered_sink_can_be_imported_and_has_what_the_contract_asks(kind: str) -> None:
    made = sink_class(SinkSpec(kind, "x", kind))
    assert all(callable(getattr(made, name)) for name in ("check", "write", "close", "__enter__", "__exit__"))


def test_the_null_sink_can_always_be_opened() -> None:
    spec = parse_sink("null")
    check_sink(spec)
    with open_sink(spec, SinkContext()) as sink:
        sink.close()
