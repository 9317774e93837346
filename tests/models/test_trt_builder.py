"""What TensorRT's builder is asked for: types, TF32, targets, timings; and how progress and errors come back.

The data-centre package cannot be installed on a machine without its libraries, so a stand-in with its names records the
calls; what TensorRT-RTX really builds is in test_trt_engine.py.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from endostream.configs.errors import ModelError
from endostream.models.trt_builder import BuildPlan, PhaseTree, plan_bytes
from endostream.models.trt_flavour import Flavour, load_flavour

from .tiny_onnx import write_tiny


class Timings:
    """A timing cache, and whether it is one of this GPU and version."""

    def __init__(self, known: bytes) -> None:
        self.known = known

    def serialize(self) -> bytes:
        return self.known + b"+timed"


class Tensorrt:
    """Stands in for the module ``tensorrt``: the names that are used, every call written down."""

    BuilderFlag = SimpleNamespace(TF32="TF32")
    ILogger = type("ILogger", (), {"ERROR": 1, "WARNING": 2})
    IProgressMonitor = type("IProgressMonitor", (), {})

    def __init__(self, *, major: int = 10, plan: bytes | None = b"plan", takes_timings: bool = True) -> None:
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**({"STRONGLY_TYPED": 1} if major < 11 else {}))
        self.calls: list[tuple[Any, ...]] = []
        self.plan, self.takes_timings, self.parses = plan, takes_timings, True
        self.timings: Timings | None = None
        self.progress_monitor: Any = None
        self.num_errors = 1

    def Builder(self, logger: Any) -> "Tensorrt":  # noqa: N802 (its name there)
        self.logger = logger
        return self

    def create_network(self, flags: int) -> str:
        self.calls.append(("create_network", flags))
        return "network"

    def OnnxParser(self, network: str, logger: Any) -> "Tensorrt":  # noqa: N802 (its name there)
        return self

    def parse(self, graph: bytes) -> bool:
        self.calls.append(("parse", graph))
        return self.parses

    def get_error(self, number: int) -> Any:
        said = {"node_operator": "Conv", "node_name": "stem", "desc": "no such weights"}
        return SimpleNamespace(**{name: lambda text=text: text for name, text in said.items()})

    def create_builder_config(self) -> "Tensorrt":
        return self

    def set_flag(self, flag: str) -> None:
        self.calls.append(("set_flag", flag))

    def clear_flag(self, flag: str) -> None:
        self.calls.append(("clear_flag", flag))

    def create_timing_cache(self, known: bytes) -> Timings:
        return Timings(known)

    def set_timing_cache(self, timings: Timings, ignore_mismatch: bool) -> bool:
        self.calls.append(("set_timing_cache", timings.known, ignore_mismatch))
        taken = self.takes_timings or not timings.known
        self.timings = timings if taken else self.timings
        return taken

    def get_timing_cache(self) -> Timings | None:
        return self.timings

    def build_serialized_network(self, network: str, config: Any) -> bytes | None:
        monitor = self.progress_monitor
        monitor.phase_start("Building engine", None, 4)
        for step in range(4):
            if not monitor.step_complete("Building engine", step):
                return None
        monitor.phase_finish("Building engine")
        if self.plan is None:
            self.logger.log(1, "Could not find any implementation for node stem")
        return self.plan


def order(module: Any, timings: Path | None = None, *, tf32: bool = False) -> BuildPlan:
    flavour = Flavour("tensorrt", module, "10.16.0.72", "pip install 'endostream[tensorrt]'")
    return BuildPlan(b"graph", flavour, ("sm86",), tf32, timings)


@pytest.mark.parametrize(("major", "flags"), [(10, 1 << 1), (11, 0)])
def test_the_network_is_strongly_typed_by_flag_or_because_there_is_no_other_way(
    major: int, flags: int
) -> None:
    module = Tensorrt(major=major)
    assert plan_bytes(order(module)) == b"plan"
    assert module.calls[:2] == [("create_network", flags), ("parse", b"graph")]


@pytest.mark.parametrize(("tf32", "call"), [(False, "clear_flag"), (True, "set_flag")])
def test_tf32_is_off_unless_asked_for(tf32: bool, call: str) -> None:
    module = Tensorrt()
    plan_bytes(order(module, tf32=tf32))
    assert (call, "TF32") in module.calls


def test_timings_are_kept_and_used_by_the_next_build(tmp_path: Path) -> None:
    module, file = Tensorrt(), tmp_path / "timings.cache"
    plan_bytes(order(module, file))
    assert file.read_bytes() == b"+timed"
    plan_bytes(order(module, file))
    assert file.read_bytes() == b"+timed+timed"
    used = [call[1:] for call in module.calls if call[0] == "set_timing_cache"]
    assert used == [(b"", False), (b"+timed", False)]
    assert [path.name for path in tmp_path.iterdir()] == ["timings.cache"]


def test_timings_of_another_gpu_or_version_are_not_used(tmp_path: Path) -> None:
    module, file = Tensorrt(takes_timings=False), tmp_path / "timings.cache"
    file.write_bytes(b"foreign")
    plan_bytes(order(module, file))
    used = [call[1:] for call in module.calls if call[0] == "set_timing_cache"]
    assert used == [(b"foreign", False), (b"", False)]
    assert file.read_bytes() == b"+timed"


def test_timings_that_cannot_be_written_cost_no_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert plan_bytes(order(Tensorrt(), tmp_path / "file" / "timings.cache")) == b"plan"


def test_tensorrt_rtx_is_given_no_timings_as_it_has_none(tmp_path: Path) -> None:
    from endostream.models.trt_engine import graph_for

    file = tmp_path / "timings.cache"
    graph = graph_for(write_tiny(tmp_path / "tiny.onnx"), "fp32")
    assert len(plan_bytes(BuildPlan(graph, load_flavour("rtx"), ("sm89",), False, file))) > 1000
    assert not file.exists()


def test_a_builder_that_gives_nothing_is_an_error_with_what_it_logged() -> None:
    with pytest.raises(
        ModelError, match=r"builder refused the network; it says: Could not find any impl.*stem"
    ):
        plan_bytes(order(Tensorrt(plan=None)))


def test_a_parser_that_refuses_is_an_error_with_the_node_it_names() -> None:
    module = Tensorrt()
    module.parses = False
    with pytest.raises(
        ModelError, match="ONNX parser refused the network; it says: Conv stem: no such weights"
    ):
        plan_bytes(order(module))


def test_progress_is_told_step_by_step() -> None:
    told: list[tuple[str, float]] = []
    plan_bytes(order(Tensorrt()), lambda phase, share: told.append((phase, share)))
    assert told == [("Building engine", share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def test_an_error_while_telling_progress_ends_the_build_and_is_raised_as_it_is() -> None:
    told: list[float] = []

    def progress(phase: str, share: float) -> None:
        told.append(share)
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_bytes(order(Tensorrt()), progress)
    assert told == [0.0, 0.25, 0.5]


def test_phases_inside_steps_of_others_count_as_part_of_that_step() -> None:
    phases = PhaseTree()
    shares = []
    phases.start("whole", None, 4)
    phases.step("whole", 0)
    phases.start("inside", "whole", 2)
    phases.start("beside", "whole", 10)
    shares.append(phases.share())
    phases.step("inside", 0)
    shares.append(phases.share())
    phases.step("beside", 0)
    shares.append(phases.share())
    phases.finish("inside")
    phases.finish("beside")
    shares.append(phases.share())
    phases.step("whole", 1)
    shares.append(phases.share())
    phases.finish("whole")
    shares.append(phases.share())
    assert shares == [0.25, 0.375, 0.375, 0.375, 0.5, 0.5]
