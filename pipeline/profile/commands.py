"""What ``endostream profile`` and its subcommands do with their options. Separate from the command line, which only
spells them."""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from endostream.configs.errors import CheckFailed, ConfigError, EndostreamError, ExitCode

from ..report_table import format_ms, plain, table_of, widen
from ..request import check_output_file, check_source
from ..source import is_live
from . import cfr
from .budget import Verdict, check, parse_budget, refuse_unknown
from .cfr_page import cfr_page
from .compare import Change, Comparison, check_changes, compare
from .compare_page import compare_page
from .external import FAULTS, external_cells, witness_faults
from .held import cells_in
from .matrix import matrix_of, rates_of, sizes_of
from .page import write_page
from .profiler import ProfileRequest, known_code, make_profile
from .result import read_profile

_CHANGES_SHOWN = (
    *("video_delay", "annotation_delay", "present_interval", "overlay.service", "infer.service"),
    *("witness.delay", "witness.interval"),
)


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """The options of ``endostream profile`` as they were typed."""

    sources: Sequence[str]
    out: Path
    dimensions: dict[str, str | None] = field(default_factory=dict)
    warm_up_s: float = 2.0
    first_frames: bool = False
    duration_s: float = 20.0
    repeats: int = 3
    external: Sequence[str] = ()
    budgets: Sequence[str] = ()
    options: tuple[str, ...] = ()
    as_json: bool = False
    quiet: bool = False
    command: Sequence[str] = ()


def profile_command(options: ProfileOptions) -> int:
    """Make a profile, print it, and return the exit code: that of a run that failed, else 5 for a broken budget."""
    if not options.sources and not options.external:
        raise ConfigError("profile: no source. Try: endostream profile phantom:")
    for address in options.sources:
        check_source(address)
    sizes, rates = sizes_of(options.dimensions.get("size")), rates_of(options.dimensions.get("rate"))
    request = ProfileRequest(
        matrix_of(options.sources, **options.dimensions),
        options.out,
        external_cells(options.external, options.sources, sizes, rates),
        0.0 if options.first_frames else options.warm_up_s,
        options.duration_s,
        options.repeats,
        [parse_budget(text) for text in options.budgets],
        options.options,
        options.command,
    )
    kinds = [(False, ())] * bool(request.cells) + [(True, ())] * bool(request.external)
    refuse_unknown(request.budgets, kinds)
    made = make_profile(request, _quietly if options.quiet else _say)
    if options.as_json:
        json.dump(made.profile, sys.stdout, ensure_ascii=False)
        print()
    elif not options.quiet:
        print_profile(made.profile, made.folder)
    _tell_failures(made.profile)
    broken = _tell(made.verdicts)
    return made.exit_code or (int(ExitCode.CHECK) if broken else int(ExitCode.DONE))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quietly(line: str) -> None:
    pass


def _tell_failures(profile: dict[str, Any]) -> None:
    for cell in profile["cells"]:
        for run in cell["runs"]:
            if run["exit_code"]:
                said = "; ".join(" ".join(line.split()) for line in run["errors"].splitlines())
                _say(
                    f"endostream: run {run['repeat']} of {cell['name']}: exit code {run['exit_code']}: {said}"
                )


def _tell(verdicts: Sequence[Verdict]) -> bool:
    """Print each budget in a line, the broken ones as errors; whether any is broken."""
    for verdict in verdicts:
        _say(verdict.line() if verdict.kept else f"endostream: {verdict.line()}")
    return any(not verdict.kept for verdict in verdicts)


def print_profile(profile: dict[str, Any], out: Path) -> None:
    """A table of both delays and jitter, and where the rest lies."""
    console = Console()
    widen(console)
    columns = (
        "cell",
        "frames",
        "video p50",
        "p99",
        "p99.9",
        "max",
        "annotation p50",
        "p99",
        "jitter",
        "late",
        "drops",
    )
    table = table_of("Delays, ms", columns)
    for cell in profile["cells"]:
        if "external" not in cell["settings"]:
            table.add_row(plain(cell["name"]), *_cells_of(cell))
    if len(table.rows):
        console.print(table)
    _print_external(console, profile["cells"])
    for name in ("profile.html", "profile.json", "frames.csv", "trace.json"):
        console.print(f"{name + ':':14}{out / name}", highlight=False, soft_wrap=True)


def _print_external(console: Console, cells: Sequence[dict[str, Any]]) -> None:
    columns = (
        "cell",
        "seen",
        "p50",
        "p99",
        "p99.9",
        "max",
        "error p99",
        *(name.replace("_", " ") for name in FAULTS),
    )
    table = table_of("Delays to the screen by the witness, ms", columns)
    for cell in cells:
        if "external" in cell["settings"]:
            delay, error = cell["series"].get("witness.delay"), cell["series"].get("witness.error")
            figures = [format_ms(delay and delay[key]) for key in ("p50", "p99", "p99_9", "max")]
            faults = [f"{count:,}" for count in witness_faults(cell).values()]
            seen = f"{cell['counted']['presented']:,}"
            table.add_row(plain(cell["name"]), seen, *figures, format_ms(error and error["p99"]), *faults)
    if len(table.rows):
        console.print(table)


def _cells_of(cell: dict[str, Any]) -> Iterator[str]:
    series, counted = cell["series"], cell["counted"]
    yield f"{counted['presented']:,}"
    for name, keys in (("video_delay", ("p50", "p99", "p99_9", "max")), ("annotation_delay", ("p50", "p99"))):
        one = series.get(name)
        yield from (format_ms(one and one[key]) for key in keys)
    intervals = series.get("present_interval")
    yield format_ms(intervals and intervals["jitter"])
    yield "–" if counted["deadline_misses"] is None else f"{counted['deadline_misses']:,}"
    yield f"{sum(counted['dropped'].values()):,}"


def compare_command(
    before: Path, after: Path, html: Path | None, budgets: Sequence[str], as_json: bool
) -> int:
    """Compare two profiles; 5 if B is worse than a budget allows."""
    limits = [parse_budget(text, relative_allowed=True) for text in budgets]
    one, other = read_profile(before), read_profile(after)
    refuse_unknown(limits, _series_in((*one["cells"], *other["cells"])))
    found = compare(one, other)
    verdicts = list(check_changes(limits, found))
    if html is not None:
        write_page(html, compare_page(one, other, found, verdicts))
    if as_json:
        print(json.dumps(comparison_json(found, verdicts), ensure_ascii=False))
    else:
        print_comparison(found)
    return int(ExitCode.CHECK) if _tell(verdicts) else int(ExitCode.DONE)


def check_command(path: Path, budgets: Sequence[str]) -> int:
    """Hold what was measured before against budgets: 5 if one is broken."""
    if not budgets:
        raise ConfigError("check: no budget. Try: --budget video_delay.p99=5.75ms")
    limits, cells = [parse_budget(text) for text in budgets], cells_in(path)
    refuse_unknown(limits, _series_in(cells))
    return int(ExitCode.CHECK) if _tell(list(check(limits, cells))) else int(ExitCode.DONE)


def _series_in(cells: Sequence[dict[str, Any]]) -> Iterator[tuple[bool, Collection[str]]]:
    """As ``refuse_unknown`` wants it."""
    return (("external" in cell["settings"], cell["series"].keys()) for cell in cells)


class ProfileFailed(EndostreamError, RuntimeError):
    """A run of the profile that a report is made of failed; the command ends with the exit code of that run."""

    def __init__(self, exit_code: int, source: str) -> None:
        super().__init__(f"profile: {source}; a run ended with exit code {exit_code}, expected 0")
        self.exit_code = ExitCode(known_code(exit_code))


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The options of ``endostream profile report`` as they were typed."""

    profile: Path | None
    cfr: Path
    source: str | None = None
    evaluation: Path | None = None
    options: tuple[str, ...] = ()
    duration_s: float | None = None
    as_json: bool = False
    command: Sequence[str] = ()


def report_command(options: ReportOptions) -> int:
    """Write the report; 5 if a pixel outside the marks is not what was captured. Makes a profile if none is given."""
    check_output_file("cfr", options.cfr, ".html")
    evaluation = None if options.evaluation is None else cfr.read_evaluation(options.evaluation)
    profile = _profile_for(options) if options.profile is None else read_profile(options.profile)
    source = options.source or cfr.own_cells(profile)[0]["settings"]["source"]
    if is_live(source):
        raise ConfigError(f"report: {source} is live; expected a recording to compare. Try: --source FILE")
    check_source(source)
    played = [*cfr.options_of(profile), *options.options]
    if options.duration_s is not None:
        played += ["--duration", f"{options.duration_s:g}"]
    _say(f"pixel comparison: {source}, every frame")
    made = cfr.make_cfr(profile, source, played, evaluation, options.command)
    write_page(options.cfr, cfr_page(made))
    found = made.degradation
    if options.as_json:
        print(json.dumps(made.to_json(), ensure_ascii=False))
    else:
        print(
            f"{options.cfr}: {found.frames} frames, {found.changed_px} of {found.compared_px} pixels differ"
        )
    if not found.identical:
        raise CheckFailed(
            f"degradation: {found.changed_px} pixels outside the marks differ in {source}; expected 0"
        )
    return int(ExitCode.DONE)


def _profile_for(options: ReportOptions) -> dict[str, Any]:
    """A profile of the source as it is, the first frames included, beside the report."""
    if options.source is None:
        raise ConfigError(
            "report: neither a profile nor a source. Try: endostream profile report DIR --cfr FILE"
        )
    check_source(options.source)
    out = options.cfr.with_name(f"{options.cfr.stem}-profile")
    words = ["endostream", "profile", options.source, "--first-frames", "--out", str(out), *options.options]
    cells = matrix_of([options.source])
    request = ProfileRequest(cells, out, warm_up_s=0.0, options=options.options, command=words)
    made = make_profile(request, _say)
    _tell_failures(made.profile)
    if made.exit_code:
        raise ProfileFailed(made.exit_code, options.source)
    return made.profile


def comparison_json(found: Comparison, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """As data."""
    return {
        "changes": [change.to_json() for change in found.changes],
        "caveats": found.caveats,
        "alone": found.alone,
        "budgets": [verdict.to_json() for verdict in verdicts],
    }


def print_comparison(found: Comparison) -> None:
    """The main changes as a table for each pair of cells, and every caveat."""
    console = Console()
    widen(console)
    for name, _, _ in found.pairs:
        columns = ("series", "figure", "A", "B", "difference", "95 % interval", "")
        table = table_of(f"{plain(name)}: B less A, ms", columns, text_columns=2)
        for change in found.changes:
            if change.cell == name and _is_main(change):
                table.add_row(change.series, change.figure, *_change_cells(change))
        console.print(table)
        console.print()
    for line in (*found.caveats, *found.alone):
        console.print(f"note: {plain(line)}", soft_wrap=True)


def _is_main(change: Change) -> bool:
    return change.series in _CHANGES_SHOWN and change.figure in ("p50", "p99", "p99_9", "jitter")


def _change_cells(change: Change) -> tuple[str, ...]:
    ends = "–" if change.interval is None else f"{change.interval[0]:+.3f} to {change.interval[1]:+.3f}"
    step = "–" if change.difference is None else f"{change.difference:+.3f}"
    return format_ms(change.before), format_ms(change.after), step, ends, change.verdict
