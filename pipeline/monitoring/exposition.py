"""Metrics for Prometheus: name, unit and help of every family.

Separate from ``metrics.py``, which says where the run stands in one record, and from ``metrics_server.py``, which
serves it: here that record is put into Prometheus' terms (base units, ``_total``, cumulative buckets) with the official
client's classes. No picture, source address or credential is among them; a sink's label holds its path as given.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..frame import MaskState
from ..supervision import StageState
from .series import SeriesNs

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BOUNDS_MS = (
    *(0.5, 1, 2, 3, 4, 5, 5.75, 7.5, 10, 15, 20, 25, 33.4, 40, 50, 66.7, 80, 100, 120, 150, 200, 300),
    *(500, 1000, 2000, 5000),
)
"""Upper bounds of the buckets; among them both anchors (5.75 and 120 ms), one and two periods of 25 and 30 fps."""

Samples = Mapping[Any, Any]
"""Values by the tuple of their labels' values; None where there is none."""


def families(record: dict[str, Any]) -> "Iterator[Metric]":
    """Every metric family of a record made by ``metrics.snapshot``."""
    return chain(_run(record), _frames(record), _stages(record), _links(record), _sinks(record))


def _gauge(name: str, sentence: str, samples: Samples, *labels: str) -> "Metric":
    """A gauge."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"endostream_{name}", sentence, labels=labels)
    for values, value in samples.items():
        if value is not None:
            family.add_metric(values, value)
    return family


def _counter(name: str, sentence: str, samples: Samples, *labels: str) -> "Metric":
    """A counter, told as ``…_total``."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"endostream_{name}", sentence, labels=labels)
    for values, value in samples.items():
        if value is not None:
            family.add_metric(values, value)
    return family


def _histogram(name: str, sentence: str, samples: Mapping[Any, SeriesNs], *labels: str) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"endostream_{name}", sentence, labels=labels)
    for values, series in samples.items():
        family.add_metric(values, cumulative_buckets(series), series["sum_ns"] / 1e9)
    return family


def cumulative_buckets(series: SeriesNs) -> list[tuple[str, float]]:
    """How many durations were at most each bound, to 0.4 % of the bound; bounds are text, in seconds."""
    buckets: list[tuple[str, float]] = []
    rest, seen = iter(series["buckets"]), 0
    edge_ns, count = next(rest, (None, 0))
    for bound_ms in BOUNDS_MS:
        while edge_ns is not None and edge_ns <= bound_ms * 1_004_000:
            seen += count
            edge_ns, count = next(rest, (None, 0))
        buckets.append((f"{bound_ms / 1000:g}", seen))
    return [*buckets, ("+Inf", series["n"])]


def _one_of(name: str, states: Iterator[str]) -> dict[tuple[str, ...], int]:
    return {(state,): int(state == name) for state in states}


def _run(record: dict[str, Any]) -> "Iterator[Metric]":
    run = record["run"]
    labels = ("version", "mode", "segmenter", "runtime", "presenting_sink", "run_id")
    values = (*(run[label] for label in labels[:-1]), run["id"])
    yield _gauge("run_info", "What runs; the value is always 1.", {values: 1}, *labels)
    yield _gauge("run_uptime_seconds", "Time since the run began.", {(): run["uptime_s"]})
    yield _gauge(
        "run_finishing",
        "1 once nothing new is taken in, else 0.",
        {(): int(run["status"] != "running")},
    )
    yield _counter(
        "faults", "What went wrong and was logged, of every kind.", {(): record["faults"]["count"]}
    )
    rings: dict[tuple[str, ...], int] = {}
    for ring in record["rings"]:
        rings[(ring["role"],)] = rings.get((ring["role"],), 0) + ring["bytes"]
    yield _gauge("ring_bytes", "Shared memory that pictures lie in.", rings, "role")


def _frames(record: dict[str, Any]) -> "Iterator[Metric]":
    frames, masks, delays = record["frames"], record["masks"], record["delays"]
    sources = {(str(source["index"]),): source for source in record["sources"]}
    for name, sentence in (
        ("captured", "Frames taken from the source."),
        ("presented", "Frames shown, or finished where nothing shows them."),
        ("positive", "Frames presented with something marked."),
        ("lost_at_source", "Frames that the source itself lost."),
    ):
        samples = {labels: source[name] for labels, source in sources.items()}
        yield _counter(f"frames_{name}", sentence, samples, "source")
    faults = {
        (*labels, cause): count
        for labels, source in sources.items()
        for cause, count in source["faults"].items()
    }
    yield _counter("source_faults", "What was wrong with the source, by cause.", faults, "source", "cause")
    dropped = {(cause,): count for cause, count in frames["dropped"].items()}
    yield _counter("frames_dropped", "Frames captured and not presented, by cause.", dropped, "cause")
    yield _counter(
        "no_signal_cards", "Pictures shown in place of a silent source.", {(): frames["synthetic"]}
    )
    yield _counter(
        "frames_not_shown",
        "Frames presented while the window was away or slow.",
        {(): frames["not_shown"]},
    )
    yield _gauge(
        "frames_held", "Frames decoded ahead, or in every-frame mode not settled.", {(): frames["held"]}
    )
    yield _gauge(
        "since_presented_seconds",
        "Time since a frame of the source was presented: how old what is shown is.",
        {(): frames["since_presented_s"]},
    )
    yield _gauge(
        "longest_freeze_seconds",
        "Longest interval between two presented frames.",
        {(): frames["longest_freeze_ms"] / 1000},
    )
    by_state = {(state,): count for state, count in masks["frames_by_state"].items()}
    yield _counter("frames_mask_state", "Frames presented, by mask state.", by_state, "state")
    state = _one_of(masks["state"], (state.label for state in MaskState))
    yield _gauge("mask_state", "1 for the mask state of the newest frame, else 0.", state, "state")
    age = None if masks["age_ms"] is None else masks["age_ms"] / 1000
    yield _gauge("mask_age_seconds", "Age of the newest frame's mask.", {(): age})
    for name, sentence in (
        ("computed", "Masks that infer computed."),
        ("presented", "Masks that reached a presented frame."),
        ("superseded", "Masks not shown since a newer one was there."),
        ("discarded", "Masks of another source or loop."),
    ):
        yield _counter(f"masks_{name}", sentence, {(): masks[name]})
    for name, sentence in (
        ("video_delay", "From the capture of a frame to its presentation."),
        (
            "annotation_delay",
            "From the capture of a mask's frame to the first presented frame with that mask.",
        ),
        ("release_lateness", "How late a replayed frame was released against its due time."),
        ("present_interval", "Between two presented frames."),
    ):
        yield _histogram(f"{name}_seconds", sentence, {(): delays[name]})


def _stages(record: dict[str, Any]) -> "Iterator[Metric]":
    stages = {(name,): stage for name, stage in record["stages"].items()}
    states = {
        (*labels, *state): value
        for labels, stage in stages.items()
        for state, value in _one_of(stage["state"], (each.name.lower() for each in StageState)).items()
    }
    yield _gauge("stage_state", "1 for the state that the stage is in, else 0.", states, "stage", "state")
    for name, key, sentence in (
        ("restarts", "restarts", "Times the stage was started again."),
        ("processed", "processed", "Messages the stage worked on."),
        ("errors", "errors", "Messages the stage failed on."),
    ):
        samples = {labels: stage[key] for labels, stage in stages.items()}
        yield _counter(f"stage_{name}", sentence, samples, "stage")
    for name, key, sentence in (
        ("silent_seconds", "silent_s", "Time since the stage last showed life."),
        ("busy_seconds", "busy_s", "Time for which it has been at its present work, 0 if idle."),
    ):
        yield _gauge(
            f"stage_{name}", sentence, {labels: stage[key] for labels, stage in stages.items()}, "stage"
        )
    everyone = {**stages, ("supervisor",): record["supervisor"]}
    for name, key, sentence in (
        (
            "resident_memory_bytes",
            "resident_bytes",
            "Resident memory of the process, shared memory included.",
        ),
        ("shared_memory_bytes", "shared_bytes", "Of it, memory that is shared with others."),
        ("threads", "threads", "Threads of the process."),
        ("open_files", "open_files", "Open file descriptors of the process."),
    ):
        samples = {labels: stage[key] for labels, stage in everyone.items()}
        yield _gauge(f"stage_{name}", sentence, samples, "stage")
    cpu = {labels: stage["cpu_s"] for labels, stage in everyone.items()}
    yield _counter("stage_cpu_seconds", "Processor time of the process; begins at 0 with each.", cpu, "stage")
    for name, sentence in (
        ("service", "How long the stage worked on a frame."),
        ("wait", "How long a frame waited for the stage."),
    ):
        samples = {labels: stage[name] for labels, stage in stages.items()}
        yield _histogram(f"stage_{name}_seconds", sentence, samples, "stage")


def _links(record: dict[str, Any]) -> "Iterator[Metric]":
    links = {(name,): link for name, link in record["links"].items()}
    for name, key, sentence in (
        ("sent", "sent", "Messages sent on the link."),
        ("acknowledged", "acknowledged", "Messages that the reader was done with."),
        ("lost_with_stage", "lost_with_stage", "Messages that a restarted stage took along."),
        ("resent", "resent", "Messages sent again."),
        ("refused", "refused", "Messages that came in and were none of ours, or damaged."),
    ):
        samples = {labels: link[key] for labels, link in links.items()}
        yield _counter(f"link_messages_{name}", sentence, samples, "link")
    depth = {labels: link["in_flight"] for labels, link in links.items()}
    yield _gauge("link_messages_in_flight", "Messages sent and not yet done with: the queue.", depth, "link")
    dropped = {
        (name, cause): count
        for name, link in record["links"].items()
        for cause, count in link["dropped"].items()
    }
    yield _counter("link_messages_dropped", "Messages dropped, by cause.", dropped, "link", "cause")


def _sinks(record: dict[str, Any]) -> "Iterator[Metric]":
    sinks = {(label,): sink for label, sink in record["sinks"].items()}
    written = {labels: sink["written"] for labels, sink in sinks.items()}
    yield _counter("sink_frames_written", "Frames written.", written, "sink")
    dropped = {
        (label, cause): count
        for label, sink in record["sinks"].items()
        for cause, count in sink["dropped"].items()
    }
    yield _counter("sink_frames_dropped", "Frames not written, by cause.", dropped, "sink", "cause")
    failed = {labels: int(bool(sink["failed"])) for labels, sink in sinks.items()}
    yield _gauge("sink_failed", "1 if the sink cannot be written any more, else 0.", failed, "sink")
    free = {labels: sink["free_bytes"] for labels, sink in sinks.items()}
    yield _gauge("sink_free_bytes", "Room left on the disk that the sink writes to.", free, "sink")
    delay = {labels: sink["write_delay"] for labels, sink in sinks.items()}
    yield _histogram("sink_write_delay_seconds", "From presentation of a frame to written.", delay, "sink")
