"""What a sink is, which kinds there are, and how ``KIND[:PATH]`` is read.

A sink writes what was presented. It never decides what is shown, and only the presenting sink (window, null or diary)
may sit in the display process. Adding one: a file with a class of this protocol and a line in SINKS.
"""

import importlib
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol, Self

from endostream.configs.errors import ConfigError

from .frame import Presented


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """``KIND[:PATH]`` taken apart; ``label`` is what the user wrote and what the report calls it."""

    kind: str
    path: str
    label: str


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink may know of the run.

    Attributes:
        fps: nominal rate of the source, None if unknown.
        options: the ``record`` section of the configuration, by name.
        part: 0, or n after the n-th restart of the record process: a sink must not overwrite what part n - 1 wrote
            (``o.mp4`` goes on as ``o.part1.mp4``; JSON lines are appended).
    """

    fps: Fraction | None = None
    options: dict[str, Any] = field(default_factory=dict)
    part: int = 0


class Sink(Protocol):
    """A sink; its constructor takes ``(spec, context)`` and may not need the picture's size before ``write``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise SinkError or ConfigError now if this could never be written; called before anything starts."""

    def write(self, presented: Presented) -> None:
        """Take one presented frame. The picture is the sink's only until this returns."""

    def close(self) -> None:
        """Finish the output so that it can be read; may be called twice."""


PRESENTING_KINDS = ("window", "null", "diary")
_WITHOUT_PATH = ("window", "null")

SINKS: dict[str, str] = {
    "video": "endostream.pipeline.sinks.video_sink:VideoSink",
    "jsonl": "endostream.pipeline.sinks.jsonl_sink:JsonlSink",
    "trace": "endostream.pipeline.sinks.trace_sink:TraceSink",
    "png": "endostream.pipeline.sinks.png_sink:PngSink",
    "window": "endostream.pipeline.window.window_sink:WindowSink",
    "null": "endostream.pipeline.sinks.null_sink:NullSink",
    "diary": "endostream.pipeline.sinks.diary_sink:DiarySink",
}


def parse_sink(text: str) -> SinkSpec:
    """Take ``KIND[:PATH]`` apart; raises ConfigError for an unknown kind or a missing path."""
    kind, _, path = text.partition(":")
    if kind not in SINKS:
        raise ConfigError(f"sink: {text!r}; expected KIND[:PATH] with KIND one of {', '.join(SINKS)}")
    if kind in _WITHOUT_PATH and path:
        raise ConfigError(f"sink: {text!r}; {kind} takes no path")
    if kind not in _WITHOUT_PATH and not path:
        raise ConfigError(f"sink: {text!r}; {kind} needs a path. Try: --sink {kind}:PATH")
    return SinkSpec(kind, path, text)


def sink_class(spec: SinkSpec) -> Any:
    """The class that writes ``spec``, imported on use."""
    module_name, class_name = SINKS[spec.kind].split(":")
    return getattr(importlib.import_module(module_name), class_name)


def check_sink(spec: SinkSpec) -> None:
    """Raise SinkError or ConfigError now if ``spec`` could never be written."""
    sink_class(spec).check(spec)


def open_sink(spec: SinkSpec, context: SinkContext) -> Sink:
    """Open the sink ``spec`` names."""
    sink: Sink = sink_class(spec)(spec, context)
    return sink
