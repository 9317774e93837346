"""Metrics as Prometheus reads them: over HTTP, parsed by the official client, and from a real run."""

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from endostream.configs.errors import ConfigError, SourceLost
from endostream.configs.schema import Config
from endostream.pipeline.cli import run_command
from endostream.pipeline.histogram import Histogram
from endostream.pipeline.host import RunSpec
from endostream.pipeline.launcher import ThreadLauncher
from endostream.pipeline.monitoring.exposition import BOUNDS_MS, cumulative_buckets, families
from endostream.pipeline.monitoring.metrics import snapshot
from endostream.pipeline.monitoring.metrics_server import MetricsServer, listen_address
from endostream.pipeline.monitoring.metrics_socket import RecordServer, read_record
from endostream.pipeline.monitoring.series import series_of
from endostream.pipeline.rundir import RunDirectory
from endostream.pipeline.supervisor import Supervisor

from ..end_to_end import Run, small_video


@pytest.fixture
def supervisor() -> Supervisor:
    config = Config()
    spec = RunSpec("", "live", config.model_dump(), ("a.avi",), sinks=("jsonl:o.jsonl",))
    return Supervisor(spec, config, ThreadLauncher("inproc://none/"), lambda *_: None)


def fetched(url: str) -> dict[str, Metric]:
    """The families that a scrape gives, by name, each with its help."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], family: str, sample: str, **labels: str) -> float:
    """The one sample of that name and those labels."""
    (value,) = [each.value for each in found[family].samples if each.name == sample and each.labels == labels]
    return float(value)


def test_names_have_units_and_help_and_counters_end_in_total(supervisor: Supervisor) -> None:
    found = list(families(snapshot(supervisor)))
    names = [family.name for family in found]
    assert len(names) == len(set(names))
    for family in found:
        assert family.name.startswith("endostream_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_ns", "_mb"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_a_scrape_tells_what_stands_on_the_board_at_that_moment(supervisor: Supervisor) -> None:
    board = supervisor.board
    board.cell("source0.captured").value = 7
    board.cell("capture-overlay.dropped.superseded").value = 2
    board.cell("infer.restarts").value = 3
    board.histogram("video_delay").record(2_500_000)
    with MetricsServer("127.0.0.1:0", lambda: snapshot(supervisor)) as server:
        found = fetched(server.url)
        captured = ("endostream_frames_captured", "endostream_frames_captured_total")
        assert value(found, *captured, source="0") == 7
        board.cell("source0.captured").value = 8
        assert value(fetched(server.url), *captured, source="0") == 8
    dropped = ("endostream_frames_dropped", "endostream_frames_dropped_total")
    assert value(found, *dropped, cause="superseded") == 2
    assert value(found, "endostream_stage_restarts", "endostream_stage_restarts_total", stage="infer") == 3
    delay = "endostream_video_delay_seconds"
    assert value(found, delay, f"{delay}_count") == 1
    assert value(found, delay, f"{delay}_sum") == 0.0025
    assert value(found, delay, f"{delay}_bucket", le="0.002") == 0
    assert value(found, delay, f"{delay}_bucket", le="0.003") == 1
    assert value(found, delay, f"{delay}_bucket", le="+Inf") == 1


def test_buckets_are_cumulative_and_a_duration_on_a_bound_lies_inside_it() -> None:
    histogram = Histogram.in_memory()
    for bound_ms in BOUNDS_MS:
        histogram.record(round(bound_ms * 1_000_000))
    histogram.record(60_000_000_000)
    counts = [count for _, count in cumulative_buckets(series_of(histogram))]
    assert counts == [*range(1, len(BOUNDS_MS) + 1), len(BOUNDS_MS) + 1]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("tower.local:1", ("tower.local", 1)),
    ],
)
def test_an_address_is_host_and_port_and_a_port_alone_is_this_machine(
    text: str, address: tuple[str, int]
) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:", "127.0.0.1:99999", "::1:80", "a:b", "1:²"])
def test_anything_else_is_refused_with_exit_code_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        listen_address(text)
    if text:
        assert run_command(["replay", "phantom:", "--metrics", text]) == 2
        assert capsys.readouterr().err.startswith(f"endostream: metrics.listen: {text!r}; expected HOST:PORT")


def test_a_port_in_use_ends_the_command_with_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_command(["replay", "phantom:", "--quiet", "--metrics", f"127.0.0.1:{port}"]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"endostream: metrics.listen: 127.0.0.1:{port}; cannot be listened on (address already in use). "
        "Try: --metrics 127.0.0.1:0\n"
    )


def test_an_address_that_others_can_reach_is_warned_of(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    with MetricsServer("0", lambda: snapshot(supervisor)):
        assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == []
    with MetricsServer("0.0.0.0:0", lambda: snapshot(supervisor)):
        (warned,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "without password" in warned.getMessage()


def test_a_record_that_cannot_be_made_is_the_scrapers_error_and_nobody_elses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no board")

    with MetricsServer("127.0.0.1:0", broken) as server:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetched(server.url)
            assert refused.value.code == 500
            refused.value.close()


def test_the_record_is_read_over_the_run_directory_until_the_run_is_over(supervisor: Supervisor) -> None:
    with RunDirectory() as directory:
        with RecordServer(directory.path, lambda: snapshot(supervisor)):
            assert read_record(directory.path)["run"]["id"] == supervisor.outcome.run_id
            with socket.socket(socket.AF_UNIX) as silent:  # one who connects and never reads
                silent.connect(str(directory.path / "metrics.sock"))
                assert read_record(directory.path)["schema"] == 1
        with pytest.raises(SourceLost, match="gives no answer"):
            read_record(directory.path)


def test_a_real_run_serves_both_while_it_plays(tmp_path: Path) -> None:
    with Run(tmp_path, small_video(tmp_path), "--loop", "0", "--metrics", "127.0.0.1:0") as run:
        url = run.wait_for(lambda: "".join(run.stderr.split("metrics: ")[1:2]).strip(), "the address")
        run.wait_for(
            lambda: (
                value(
                    fetched(url),
                    "endostream_frames_presented",
                    "endostream_frames_presented_total",
                    source="0",
                )
                > 5
            ),
            "presented frames in the metrics",
        )
        (directory,) = (run.runtime / "endostream").glob("run-*")
        record = read_record(directory)
        run.send(signal.SIGINT)
        ended = run.end()
    assert ended.code == 130
    assert ended.report["run_id"] == record["run"]["id"]
    assert {stage["state"] for stage in record["stages"].values()} == {"running"}
    assert {facts["threads"] > 0 for facts in record["stages"].values()} == {True}
    assert json.loads(json.dumps(record)) == record
