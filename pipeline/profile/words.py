"""What a profile measured and what it did not, in plain words; and its machine in a line or two.

Separate so that the limits of a number are written next to what makes it, and go into the JSON as well as onto pages.
"""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any


def measured_words(options: dict[str, Any], cells: list[dict[str, Any]]) -> list[str]:
    """What was measured, a sentence each."""
    return list(_measured(options, cells))


def _measured(options: dict[str, Any], cells: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "Each cell is the whole pipeline, run as a user runs it: capture, preprocess, infer, overlay and record, and "
        "every frame's own stamps of one monotonic clock, none of them averaged."
    )
    yield (
        "video_delay begins when a picture that was decoded ahead is released and ends when the presenting sink is "
        "done with it; how late a release was is told apart (release_lateness), so pacing lies in no delay."
    )
    repeats, length = options["repeats"], options["duration_s"]
    yield f"{repeats} run{'s' if repeats > 1 else ''} of {length:g} s of each cell; no two runs at the same time."
    if options["first_frames"]:
        yield "The first frames count: nothing is left out at the beginning."
    else:
        yield f"The first {options['warm_up_s']:g} s after the first picture are left out of every figure (warm-up)."
    if any("external" in cell["settings"] for cell in cells):
        yield (
            "Cells named external are measured from outside, by a code in the picture read again from the X server's "
            "frame buffer: their delay ends later than our own stamps do, so compare them with one another only."
        )
    if any(cell["settings"].get("pace") == "back-to-back" for cell in cells):
        yield (
            "back-to-back: pictures follow as fast as they are taken and none is dropped, each waits for its own mask; "
            "this shows throughput, and its delays contain waiting in queues that live use does not have. Duration and "
            "warm-up are stream time here: as much of the pictures is played, and the same share of the run left out."
        )
    yield (
        "Percentiles are nearest-rank from buckets 0.4 % wide, never below the true one; maxima are exact. Intervals "
        "are 95 % from a block bootstrap over runs and blocks of time."
    )


def unmeasured_words(cells: list[dict[str, Any]], environment: dict[str, Any]) -> list[str]:
    """What was not measured, a sentence each."""
    return list(_unmeasured(cells, environment))


def _unmeasured(cells: list[dict[str, Any]], environment: dict[str, Any]) -> Iterator[str]:
    sinks = {run["report"].get("presenting_sink") for cell in cells for run in cell["runs"]} - {None}
    if "null" in sinks:
        yield (
            "No screen: the null sink presents, which means that the finished picture is complete in memory. A window "
            "system and a screen come on top."
        )
    if "window" in sinks:
        yield "A window presents: the toolkit's draw call has returned. Compositor, cable and screen come on top."
    yield "Light: from the lens to the eye takes an instrument outside the computer."
    if any(cell["settings"].get("decoded_beforehand") for cell in cells):
        yield "Decoding and capture cards: pictures were decoded and resized beforehand and played from memory."
    if any("external" not in cell["settings"] for cell in cells):
        yield (
            "Our own stamps are the only witness here; a stamp that were taken at the wrong place would not be "
            "noticed. endostream profile --external measures from outside. Masks that no picture carried (superseded "
            "by newer ones) are counted, and their times are in the stages' own figures of each run's report only."
        )
    yield "Writing the frame log and watching the machine run beside what is measured, and cost it what they cost."
    if not any("cpu_mhz" in run["machine"] for cell in cells for run in cell["runs"]):
        yield "Clock rates of the processor: this machine does not tell them."
    if environment.get("gpu") is None:
        yield "No GPU was there, so none was watched."
    elif not any("gpu_sm_mhz" in run["machine"] for cell in cells for run in cell["runs"]):
        yield "Clocks and load of the GPU: pynvml is not installed. Try: pip install 'endostream[profile]'."


def machine_line(environment: dict[str, Any]) -> str:
    """Processor, cores, GPU, system in a line."""
    gpu = environment.get("gpu")
    parts = [
        str(environment.get("cpu")),
        f"{environment.get('cores')} cores",
        gpu["name"] if gpu else "no GPU",
        f"{environment.get('memory_mib')} MiB",
        str(environment.get("kernel")),
        f"load {environment.get('load_1min')} before",
    ]
    return ", ".join(parts)


def software_line(environment: dict[str, Any]) -> str:
    """Commit and versions in a line."""
    versions = environment.get("versions") or {}
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"commit {environment.get('commit') or 'unknown'}; {named}"


def command_line(words: Sequence[str]) -> str:
    """A command as a shell takes it; a single word is one already (``--external``)."""
    return words[0] if len(words) == 1 else shlex.join(words)
