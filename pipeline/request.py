"""What the command line asks of a run, checked before any process starts.

Separate from the command line, so that a run can be asked for from Python with the same checks, and from the
supervisor, which need not know how anything was spelt.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from endostream.configs.errors import ConfigError, SinkError, SourceMissing
from endostream.configs.load import LoadedConfig
from endostream.configs.schema import Config
from endostream.models.runtimes import check_runtime_name
from endostream.models.segmenter import check_segmenter_name

from .monitoring.metrics_server import listen_address
from .sessions.session import check_session_folder, new_session_folder
from .sink import PRESENTING_KINDS, SinkSpec, check_sink, parse_sink
from .source import source_kind


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to be done.

    Attributes:
        sources: addresses, played one after another.
        sinks: as given, at most one of them presenting.
        report: JSON file to write at the end, None for none.
        config: everything that can be set.
        origins: where each setting came from, by dotted key.
        json: print the report as JSON instead of a table.
        quiet: print no progress and no table.
        command: the command line, for the report.
        summary: CSV file with a row for each source, None for none.
        record: folder to record a session in from the start, None to leave it to the user.
        recorded_masks: the sources are sessions, and their recorded masks are shown.
    """

    sources: list[str]
    sinks: list[SinkSpec]
    report: Path | None
    config: Config
    origins: dict[str, str] = field(default_factory=dict)
    json: bool = False
    quiet: bool = False
    command: list[str] = field(default_factory=list)
    summary: Path | None = None
    record: Path | None = None
    recorded_masks: bool = False

    @property
    def presenting(self) -> SinkSpec:
        """The sink that presents: the one given, else null."""
        return next((spec for spec in self.sinks if spec.kind in PRESENTING_KINDS), parse_sink("null"))

    @property
    def recording(self) -> list[SinkSpec]:
        """The sinks that do not present, in the order given."""
        return [spec for spec in self.sinks if spec.kind not in PRESENTING_KINDS]


def checked_request(
    sources: Sequence[str],
    sinks: Sequence[str],
    report: Path | None,
    loaded: LoadedConfig,
    *,
    json: bool = False,
    quiet: bool = False,
    command: Sequence[str] = (),
    summary: Path | None = None,
    record: Path | None = None,
    recorded_masks: bool = False,
) -> RunRequest:
    """Put a request together and check what can be checked without starting anything.

    Raises:
        ConfigError: no such segmenter, runtime or sink kind, several presenting sinks, two things in one place, or an
            infer host that may not be used like this.
        SourceMissing: nothing lies where a source should.
        SinkError: a sink or the report could never be written.
    """
    specs = check_words(loaded.config, sinks, recorded_masks)
    if not recorded_masks:
        check_infer_host(loaded.config)
    request = RunRequest(
        list(sources),
        specs,
        report,
        loaded.config,
        loaded.origins,
        json,
        quiet,
        list(command),
        summary,
        record,
        recorded_masks,
    )
    for address in sources:
        check_source(address)
    _check_places(request)
    for spec in specs:
        check_sink(spec)
    for what, file in (("report", report), ("summary", summary)):
        if file is not None:
            check_output_file(what, file)
    if record is not None or loaded.config.record.at_start:
        check_session_folder(new_session_folder(record, loaded.config.record.folder, datetime.now(UTC)))
    return request


def check_words(config: Config, sinks: Sequence[str], recorded_masks: bool = False) -> list[SinkSpec]:
    """The sinks taken apart. Raises ConfigError for what is wrong on any machine, whatever files and keys it has."""
    if not recorded_masks:
        check_segmenter_name(config.infer.segmenter)
    check_runtime_name(config.infer.runtime)
    if config.metrics.listen:
        listen_address(config.metrics.listen)
    specs = [parse_sink(text) for text in sinks]
    _check_one_presents(specs)
    return specs


def check_infer_host(config: Config) -> None:
    """Raise ConfigError for an infer host off the loopback without keys, or with keys that will not do."""
    infer = config.infer
    if infer.host is None:
        return
    from .remote.curve_keys import check_tower_keys
    from .remote.host_address import require_keys

    require_keys("infer.host", infer.host, infer.keys)
    if infer.keys is not None:
        check_tower_keys(Path(infer.keys))


def check_source(address: str) -> None:
    """Raise SourceMissing if nothing lies at a path; whether it can be played shows when it is opened."""
    if not address:
        raise ConfigError("source: ''; expected a path or phantom:")
    if source_kind(address) in ("file", "folder") and not Path(address).exists():
        raise SourceMissing(f"source: {address}; no such file or folder")


def check_output_file(what: str, file: Path, suffix: str = ".json") -> None:
    """Raise SinkError unless a file can be made beside ``file``, which ends in ``suffix``; leaves nothing behind."""
    if file.is_dir():
        raise SinkError(
            f"{what}: {file}; expected a file, this is a folder. Try: --{what} {file}/{what}{suffix}"
        )
    if file.exists() and not file.is_file():
        return  # a pipe or a device such as /dev/stdout
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".endostream-"):
            pass
    except OSError as error:
        hint = "" if file.parent.is_dir() else f". Try: mkdir -p {file.parent}"
        raise SinkError(f"{what}: {file}; cannot be written ({error.strerror}){hint}") from error


def _check_one_presents(specs: Sequence[SinkSpec]) -> None:
    labels = [spec.label for spec in specs if spec.kind in PRESENTING_KINDS]
    if len(labels) > 1:
        raise ConfigError(
            f"sink: {' and '.join(labels)}; expected at most one that presents (window or null)"
        )


def _check_places(request: RunRequest) -> None:
    """Raise ConfigError if an output would overwrite a source or another output."""
    taken: list[tuple[str, Path]] = []
    for source in request.sources:
        if source_kind(source) == "file":
            taken.append((source, Path(source)))
    for label, path in _outputs(request):
        for other, place in taken:
            if _same_place(path, place):
                raise ConfigError(f"{label}; expected a place of its own, this is that of {other}")
        taken.append((label, path))


def _outputs(request: RunRequest) -> Iterator[tuple[str, Path]]:
    for spec in request.recording:
        yield f"sink: {spec.label}", Path(spec.path)
    for what, file in (("report", request.report), ("summary", request.summary)):
        if file is not None:
            yield f"{what}: {file}", file


def _same_place(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
