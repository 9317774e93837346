"""From a graph in memory to an engine's bytes: the calls to TensorRT's builder, the same for both flavours.

Strong typing always (a flag in TensorRT 10, the only way from 11 on), TF32 off unless asked for, batch 1 of fixed size.
TensorRT times kernels on the GPU while it builds, and a timing cache saves most of that the next time; TensorRT-RTX
compiles for GPUs it is told, without one, and has no timing cache. Separate from the engine's record and cache
(``trt_engine.py``). It writes no engine.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endostream.configs.errors import ModelError

from .trt_flavour import Flavour

Progress = Callable[[str, float], None]
"""Told what the builder is doing, and which share of the build is done, 0 to 1; may raise to end it."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What the builder is asked for.

    Attributes:
        graph: ONNX, as bytes.
        flavour: which TensorRT.
        targets: GPUs to build for (``sm89``); what flavours build ahead for. The GPU that is there otherwise.
        tf32: let float32 convolutions round to TF32.
        timing_cache: file of kernel timings for this flavour, version and GPU, or None.
    """

    graph: bytes
    flavour: Flavour
    targets: tuple[str, ...]
    tf32: bool = False
    timing_cache: Path | None = None


def plan_bytes(plan: BuildPlan, progress: Progress | None = None) -> bytes:
    """Build. Progress is told from the thread that builds, in order.

    Raises:
        ModelError: the graph cannot be parsed or built; says what TensorRT says.
    """
    module = plan.flavour.module
    log = BuildLog()
    logger = make_logger(module, log)
    builder = module.Builder(logger)
    if builder is None:
        raise _failed(plan, "builder", log.errors)
    flag = getattr(
        module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None
    )  # may go when it is the only way
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = module.OnnxParser(network, logger)
    if not parser.parse(plan.graph):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors]
        raise _failed(plan, "ONNX parser", said or log.errors)
    config = _config(plan, builder)
    monitor = make_monitor(module, progress)
    config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if monitor.raised is not None:
        raise monitor.raised
    if built is None:
        raise _failed(plan, "builder", log.errors)
    _keep_timings(plan, config)
    return bytes(built)


def _config(plan: BuildPlan, builder: Any) -> Any:
    module = plan.flavour.module
    config = builder.create_builder_config()
    if plan.tf32:
        config.set_flag(module.BuilderFlag.TF32)
    else:
        config.clear_flag(module.BuilderFlag.TF32)
    if plan.flavour.ahead_targets():
        config.num_compute_capabilities = len(plan.targets)
        for i, target in enumerate(plan.targets):
            config.set_compute_capability(getattr(module.ComputeCapability, target.upper()), i)
    elif plan.timing_cache is not None:
        known = b""
        with contextlib.suppress(OSError):
            known = plan.timing_cache.read_bytes()
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(
            cache, False
        ):  # of another GPU or version: begin anew
            config.set_timing_cache(config.create_timing_cache(b""), False)
    return config


def _keep_timings(plan: BuildPlan, config: Any) -> None:
    """Save what was timed for the next build; a cache that cannot be written costs time only."""
    if plan.timing_cache is None or plan.flavour.ahead_targets():
        return
    cache = config.get_timing_cache()
    if cache is None:
        return
    beside = plan.timing_cache.with_name(f".{plan.timing_cache.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_bytes(bytes(cache.serialize()))
        beside.replace(plan.timing_cache)
    with contextlib.suppress(OSError):
        beside.unlink()


def _failed(plan: BuildPlan, part: str, said: Sequence[str]) -> ModelError:
    text = " ".join(" ".join(said).split())[:400] or "nothing more"
    return ModelError(
        f"engine: {plan.flavour.label}'s {part} refused the network; it says: {text}. Try: --precision fp32, or"
        " endostream export for a fresh file"
    )


@dataclass(slots=True)
class BuildLog:
    """What TensorRT logged: errors, and warnings apart."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def make_logger(module: Any, log: BuildLog) -> Any:
    """A logger of TensorRT's kind that keeps errors and warnings in ``log`` and prints nothing."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:
                log.errors.append(message)
            elif severity == module.ILogger.WARNING:
                log.warnings.append(message)

    return Logger()


def make_monitor(module: Any, progress: Progress | None) -> Any:
    """A progress monitor of TensorRT's kind. An exception out of ``progress``, Ctrl-C too, ends the build; it is kept
    in ``raised``, as none may go through TensorRT's own frames.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self._phases = PhaseTree()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases.start(phase_name, parent_phase, num_steps)
            self._tell(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._phases.step(phase_name, step)
            self._tell(phase_name)
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            self._phases.finish(phase_name)

        def _tell(self, phase_name: str) -> None:
            if progress is None or self.raised is not None:
                return
            try:
                progress(phase_name, self._phases.share())
            except BaseException as error:
                self.raised = error

    return Monitor()


class PhaseTree:
    """Phases that run inside steps of others; gives one share of the whole that never falls."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str | None, int, int]] = {}
        self._highest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins, inside ``parent`` or at the top."""
        self._steps[name] = (parent, 0, max(1, steps))

    def step(self, name: str, step: int) -> None:
        """Step number ``step`` (from 0) of a phase is done."""
        if name in self._steps:
            parent, _, steps = self._steps[name]
            self._steps[name] = (parent, min(step + 1, steps), steps)

    def finish(self, name: str) -> None:
        """A phase has ended; what it did counts with its parent's next step."""
        self._steps.pop(name, None)

    def share(self) -> float:
        """Share of the whole that is done, 0 to 1."""
        tops = [self._done(name) for name, (parent, _, _) in self._steps.items() if parent not in self._steps]
        self._highest = max([self._highest, *tops])
        return min(1.0, self._highest)

    def _done(self, name: str) -> float:
        _, done, steps = self._steps[name]
        inside = [self._done(child) for child, (parent, _, _) in self._steps.items() if parent == name]
        return min(1.0, (done + max(inside, default=0.0)) / steps)
