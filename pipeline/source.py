"""What a source of pictures is, and which source plays which address.

A source decodes or grabs; it never waits for a due time (capture does) and never touches a ring or a socket.
Adding one: a file with a class of this protocol and a line in SOURCES (by scheme) or in ``source_kind``.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from endostream.configs.errors import ConfigError, SourceMissing

from .frame import SizeHW, SourcePicture
from .sessions.session import is_session
from .sources.live_address import LIVE_KINDS, live_kind


class UnreadableFormats(ConfigError):
    """A capture device that gives only formats we leave to FFmpeg, such as H.264."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source says of itself once it is open.

    Attributes:
        address: as the user gave it.
        kind: registry name, e.g. ``"file"``.
        size_hw: of the first picture.
        fps: nominal frame rate, None if it has none.
        time_base: seconds per pts unit.
        frame_count: frames it says it has, None if unknown; never trusted for ending.
        duration_s: seconds it says it lasts, None if unknown.
        codec: of the stream, "" where there is none.
        pixel_format: before conversion to BGR.
        colour_matrix: e.g. ``"bt601"``; ``colour_range``: ``"limited"`` or ``"full"``.
        assumed: names of the properties above that the stream did not say and we assumed.
        live: True where pictures arrive by themselves and carry ``arrival_ns``.
        seed: of a rendered or disturbed source, else None.
    """

    address: str
    kind: str
    size_hw: SizeHW
    fps: Fraction | None
    time_base: Fraction
    frame_count: int | None = None
    duration_s: float | None = None
    codec: str = ""
    pixel_format: str = ""
    colour_matrix: str = ""
    colour_range: str = ""
    assumed: tuple[str, ...] = ()
    live: bool = False
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to play a source.

    Attributes:
        start_s: stream time of the first frame played; frames before it are decoded and dropped unseen.
        duration_s: stream time after which it ends, None for all.
        extra: the settings of this kind of source, by name (``phantom`` section for the phantom, …).
    """

    start_s: float = 0.0
    duration_s: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A source; its constructor takes ``(address, options)``, opens it and raises SourceMissing if it cannot."""

    info: SourceInfo

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures in order until the end. Raises SourceLost if it breaks off where more was to come."""

    @property
    def faults(self) -> dict[str, int]:
        """What was wrong with the source so far, by cause (``corrupt_packet``, ``missing_pts``, …), counted."""

    def close(self) -> None:
        """Give back file, device or socket; may be called twice."""


SOURCES: dict[str, str] = {
    "file": "endostream.replay.avi:AviSource",
    "folder": "endostream.replay.folder:FolderSource",
    "session": "endostream.replay.session_source:SessionSource",
    "phantom": "endostream.replay.phantom:PhantomSource",
    "memory": "endostream.replay.memory:MemorySource",
    "v4l2": "endostream.pipeline.sources.v4l2_source:V4l2Source",
    "stream": "endostream.pipeline.sources.stream_source:StreamSource",
    "x11grab": "endostream.pipeline.sources.stream_source:StreamSource",
    "lavfi": "endostream.pipeline.sources.stream_source:StreamSource",
    "pipe": "endostream.pipeline.sources.pipe_source:PipeSource",
}


def source_kind(address: str) -> str:
    """Registry name for an address: of a live source, its ``scheme:`` if registered, else what lies at the path."""
    live = live_kind(address)
    if live is not None:
        return live
    scheme = address.partition(":")[0]
    if scheme in SOURCES and scheme not in ("file", "folder", "session") and ":" in address:
        return scheme
    if "folder" in SOURCES and Path(address).is_dir():
        return "session" if is_session(Path(address)) else "folder"
    return "file"


def open_source(address: str, options: SourceOptions | None = None) -> Source:
    """Open what ``address`` names: ``phantom:``, a path, or a live source, which is won back when it is lost.

    Raises:
        SourceMissing: nothing there, or nothing that can be played.
        ConfigError: an address that cannot be read.
    """
    if not address:
        raise ConfigError("source: ''; expected a path or phantom:")
    kind = source_kind(address)
    if kind in ("file", "folder") and not Path(address).exists():
        raise SourceMissing(f"source: {address}; no such file or folder")
    options = options or SourceOptions()
    if kind not in LIVE_KINDS:
        return _opened(kind, address, options)
    reconnect = importlib.import_module("endostream.pipeline.sources.reconnect")
    source: Source = reconnect.ReconnectingSource(address, options, _open_live)
    return source


def is_live(address: str) -> bool:
    """Whether pictures of this source arrive by themselves."""
    return source_kind(address) in LIVE_KINDS


def _opened(kind: str, address: str, options: SourceOptions) -> Source:
    module_name, class_name = SOURCES[kind].split(":")
    source: Source = getattr(importlib.import_module(module_name), class_name)(address, options)
    return source


def _open_live(address: str, options: SourceOptions) -> Source:
    """Open a live source once; a capture device by whom ``live.reader`` says."""
    kind = source_kind(address)
    reader = options.extra.get("live", {}).get("reader", "auto")
    if kind != "v4l2" or reader == "own":
        return _opened(kind, address, options)
    if reader == "ffmpeg":
        return _opened("stream", address, options)
    try:
        return _opened(kind, address, options)
    except UnreadableFormats:
        return _opened("stream", address, options)
