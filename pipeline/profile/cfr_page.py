"""The page of a report in the shape of 21 CFR 876.1520(b)(2): what a test record of such a device would have to hold.

It says at its top that it is no clearance, and beside every figure how it was measured; where there is none, that there
is none. Made to be printed. Separate from the material (``cfr.py``).
"""

from collections.abc import Iterator
from typing import Any

from endostream.models.metrics_summary import DEFINITIONS

from .cfr import CfrReport, Performance, own_cells
from .degradation import Degradation
from .page import DASH, Html, charts, element, figure, interval, items, join, ms, page, table, words_table
from .report_charts import cdf_chart, told_apart
from .waterfall import waterfall
from .words import command_line, machine_line, software_line

_ANCHORS = {"video_delay": 5.75, "annotation_delay": 120.0}
"""Milliseconds, the bench criteria of GI Genius (De Novo DEN200055), for scale only."""
_NOTICE = (
    "This is no clearance, no approval and no submission. endostream is for research, is no medical device, and was "
    "cleared by nobody. This page puts bench measurements into the order of the special controls of "
    "21 CFR 876.1520(b)(2) so that they can be read beside such a record. Clinical testing, labelling and everything "
    "else the regulation asks for are not here."
)


def cfr_page(report: CfrReport) -> str:
    """The whole page."""
    return page("Bench measurements in the order of 21 CFR 876.1520(b)(2)", _body(report))


def _body(report: CfrReport) -> Iterator[object]:
    profile = report.profile
    yield element("h1", "Bench measurements in the order of 21 CFR 876.1520(b)(2)")
    yield element("p", _NOTICE, "notice")
    yield words_table(
        [
            ("subject", "endostream: live endoscopy video with a polyp segmenter's marks drawn in"),
            ("delays measured", profile["created_utc"]),
            ("machine", machine_line(profile["environment"])),
            ("software", software_line(profile["environment"])),
        ]
    )
    yield from _signal_path(report)
    yield element("h2", "(i) Stand-alone performance of the algorithm")
    for one in report.performance:
        yield from _performance(one)
    yield from _degradation(report.degradation, report.source)
    yield element("h2", "(iii) Delay due to marker annotation")
    yield element(
        "p",
        "annotation_delay: from the capture of the frame a mask was computed from to the end of presenting the first "
        "picture that carries it. The video does not wait for it: what drawing marks costs the video is in (iv).",
    )
    yield from _delay(profile, "annotation_delay")
    yield element("h2", "(iv) Delay of the real-time video due to the device")
    yield element(
        "p",
        "video_delay: from the capture of a frame to the end of presenting it, with marks and HUD drawn. "
        "overlay.service is the part that copying, drawing and presenting takes.",
    )
    yield from _delay(profile, "video_delay")
    yield element("h2", "What was not measured")
    yield items(profile["words"]["not_measured"])
    yield from _commands(report)


def _signal_path(report: CfrReport) -> Iterator[object]:
    source = (report.degradation.report.get("sources") or [{}])[0]
    overlay = report.degradation.report.get("config", {}).get("overlay", {})
    height, width = source.get("size_hw") or (None, None)
    assumed = ", ".join(source.get("assumed") or []) or "nothing"
    yield element("h2", "Video signal path")
    yield words_table(
        [
            ("source of (ii)", report.source),
            (
                "picture",
                f"{width} × {height}, {source.get('fps')} fps, {source.get('codec')}, {source.get('pixel_format')}",
            ),
            (
                "colour",
                f"{source.get('colour_matrix')}, {source.get('colour_range')} range; assumed: {assumed}",
            ),
            (
                "1 capture",
                "decodes or grabs into shared memory as 8-bit BGR; stamps capture_ns; never waits for a reader",
            ),
            (
                "2 overlay",
                "copies the picture once, draws the newest valid mask and the HUD's panel, hands it to the sink",
            ),
            (
                "3 presenting sink",
                "the window's draw call, or (null) nothing: the finished picture is complete in memory",
            ),
            (
                "beside it",
                "preprocess (field of view, resize) and infer (the algorithm) work on copies and can only add marks",
            ),
            (
                "on failure",
                "video goes on at full rate without marks; the HUD says which stage is down (mask state failed)",
            ),
            (
                "marks",
                f"hold {overlay.get('hold_ms')} ms, fill {overlay.get('fill_alpha')}",
            ),
        ]
    )


def _performance(one: Performance) -> Iterator[object]:
    yield element("h3", one.segmenter)
    if not one.figures:
        yield element(
            "p",
            "There is none: this algorithm has no card, and no evaluation of it was given. Try: endostream evaluate "
            "--json, and --evaluation FILE.",
            "note",
        )
        return
    yield element("p", f"From {one.origin}, on still pictures; video is harder.")
    yield words_table(one.facts)
    rows = [
        [
            name,
            DASH if value is None else f"{value:.4f}",
            _ci(one.figures.get(f"{name}_ci95")),
            DEFINITIONS[name],
        ]
        for name, value in one.figures.items()
        if name in DEFINITIONS
    ]
    yield table(("metric", "value", "95 % interval", "definition"), rows, css_class="last")


def _ci(ends: Any) -> str:
    return DASH if ends is None else f"{ends[0]:.4f} … {ends[1]:.4f}"


def _degradation(found: Degradation, source: str) -> Iterator[object]:
    length_s = found.report.get("config", {}).get("replay", {}).get("duration_s")
    played = "every frame" if length_s is None else f"every frame of {length_s:g} s (not the whole recording)"
    yield element("h2", "(ii) Degradation of image quality at pixel level")
    yield element(
        "p",
        f"{source} was replayed, {played}, with the presented pictures recorded losslessly (FFV1) and each "
        "frame's mask beside them. The source was then decoded a second time, and all three channels of every pixel "
        "outside the marks and the HUD's panel were compared. Which pixels marks may touch was worked out from the "
        "recorded masks.",
    )
    verdict = (
        "identical, byte for byte"
        if found.identical
        else f"NOT identical: {found.changed_px:,} pixels differ"
    )
    yield words_table(
        [
            ("result outside the marks", element("span", verdict, "kept" if found.identical else "broken")),
            (
                "frames compared",
                f"{found.frames:,} ({', '.join(found.sizes)}), {found.frames_with_marks:,} with marks",
            ),
            ("pixels compared", f"{found.compared_px:,}"),
            ("pixels changed", f"{found.changed_px:,}; largest difference {found.most_levels} levels of 255"),
            ("left out", f"{found.marked_px:,} pixels under marks, {found.hud_px:,} under the HUD's panel"),
            *(
                [("first frames that differ", ", ".join(map(str, found.changed_frames)))]
                if found.changed_frames
                else []
            ),
        ]
    )


def _delay(profile: dict[str, Any], name: str) -> Iterator[object]:
    rows = []
    for cell in own_cells(profile):
        for series in (name, *(["overlay.service"] if name == "video_delay" else [])):
            one = cell["series"].get(series)
            if one is None:
                rows.append([f"{cell['name']}: {series}", "0", *[DASH] * 5])
                continue
            figures = (
                join([ms(one[key]), Html("<br>"), interval(one["interval"][key])])
                for key in ("p50", "p90", "p99", "p99_9", "max")
            )
            rows.append([f"{cell['name']}: {series}", f"{one['n']:,}", *figures])
    yield table(("cell: series", "n", "p50", "p90", "p99", "p99.9", "max"), rows, "ms, with 95 % intervals")
    yield element(
        "p",
        f"For scale: {_ANCHORS[name]:g} ms was the bench criterion of a device on the market (DEN200055).",
        "lead",
    )
    cells = own_cells(profile)
    names = told_apart([cell["name"] for cell in cells])
    shares = {label: cell["series"].get(name) for label, cell in zip(names, cells, strict=True)}
    yield charts(
        [
            figure(f"{name}: share of frames within", cdf_chart(shares)),
            *(
                figure(f"the longest, {cell['name']}", waterfall(cell["worst"][name][:5], name))
                for cell in cells[:3]
                if cell["worst"][name]
            ),
        ]
    )


def _commands(report: CfrReport) -> Iterator[object]:
    profile = report.profile
    runs = dict.fromkeys(command_line(run["command"]) for cell in own_cells(profile) for run in cell["runs"])
    yield element("h2", "Exact commands")
    yield element(
        "p",
        "This report; the profile it uses; the runs of the profile; the replay of (ii). Outputs are left out.",
    )
    lines = [
        command_line(report.command),
        command_line(profile["command"]),
        *runs,
        command_line(report.degradation.command),
    ]
    yield element("pre", "\n".join(lines))
