"""Options that several commands share, with their help. Separate from the commands, which say what is done.

The text of a setting goes to the configuration as it was typed: one place checks it, whatever it came by.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from endostream.configs.errors import ConfigError

ONLY_CHECK = "only_check"
"""Key of the context's object: the options are read and checked, and nothing is run."""
SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        metavar="NAME",
        help="Which segmenter; endostream doctor lists them; or your own module:Class.",
    ),
]
RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="For a resunet: auto, tensorrt, rtx, onnxruntime-cuda, openvino, onnxruntime or keras.",
    ),
]
Sinks = Annotated[
    list[str] | None,
    typer.Option(
        "--sink",
        metavar="KIND[:PATH]",
        help="video:FILE, jsonl:FILE, trace:FILE, png:DIR, window or null; may be repeated.",
    ),
]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the report as JSON.")]
Summary = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE", help="Write a row for each source as CSV.")
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="DIR",
        help="Record a session into this new folder: raw video, video with marks, masks, report.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML that says what differs from the default."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting, e.g. overlay.hold_ms=100; may be repeated."
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve metrics for Prometheus; a port alone: to this machine only; port 0: a free one.",
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORMAT", help="Of the log on stderr: text, json or auto."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no table.")]

Finding = Annotated[str | None, typer.Option(metavar="TEXT", help="Only findings with this in them.")]
Size = Annotated[str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Only this size.")]
Rate = Annotated[float | None, typer.Option("--fps", metavar="FPS", help="Only this frame rate.")]
MinLength = Annotated[
    float | None, typer.Option("--min-length", metavar="SECONDS", help="Only this long or longer.")
]
MaxLength = Annotated[
    float | None, typer.Option("--max-length", metavar="SECONDS", help="Only this long or shorter.")
]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many recordings.")]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which recordings of a catalogue, as it was typed; None where nothing was."""

    finding: str | None
    size: str | None
    fps: float | None
    min_length_s: float | None
    max_length_s: float | None
    limit: int | None

    def selection(self) -> Any:
        """The same as the catalogue's ``Selection``; raises ConfigError for a size that is none."""
        entry = importlib.import_module("endostream.replay.catalogue_entry")
        size_hw = None if self.size is None else entry.parse_size(self.size)
        return entry.Selection(
            self.finding, size_hw, self.fps, self.min_length_s, self.max_length_s, self.limit
        )

    def sources(self, given: list[str], directory: Path | None) -> list[str]:
        """What to play: the sources given, or else what is chosen from the catalogue in ``directory``.

        Raises:
            ConfigError: neither was given, or both, or a choice without a catalogue.
            SourceMissing: nothing in the catalogue can be played.
        """
        chosen = any(value is not None for value in (getattr(self, name) for name in self.__slots__))
        if directory is None:
            if chosen:
                raise ConfigError("replay: a choice of recordings, but no catalogue. Try: --catalogue DIR")
            if not given:
                raise ConfigError("replay: nothing to play; expected SOURCE. Try: endostream replay --help")
            return given
        if given:
            raise ConfigError(f"replay: {given[0]} and --catalogue; expected only one of them")
        wanted = self.selection()
        catalogue = importlib.import_module("endostream.replay.catalogue").Catalogue.open(directory)
        return [str(entry.path) for entry in catalogue.playable(wanted)]
