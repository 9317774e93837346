"""Starts the two stages of the annotation path with the loop that links them. Nothing else is decided here."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from endostream.models.segmenter import segmenter_input_hw

from .host import StageHost
from .infer import InferStage, mask_bytes
from .preprocess import PreprocessStage
from .stage import Drop, Stage, StageBroken, StageLoop

if TYPE_CHECKING:
    from .remote.remote_infer import RemoteInferStage

_TELL_AGAIN_NS = 1_000_000_000


def run_preprocess(host: StageHost) -> None:
    """Run preprocess until the supervisor says stop."""
    settings, infer = host.config.preprocess, host.config.infer
    if host.spec.recorded_masks:
        from .sessions.recorded_masks import PassOnStage

        StageLoop(host, PassOnStage(), "capture-preprocess", "preprocess-infer").run()
        return
    stage: Stage = PreprocessStage(
        segmenter_input_hw(infer.segmenter, infer.options),
        host.ring,
        settings.field_of_view == "auto",
        settings.interval_frames,
    )
    if host.spec.chaos:
        from .reliability.chaos import ChaosStage, Switch

        stage = ChaosStage(stage, Switch(host))
    StageLoop(host, stage, "capture-preprocess", "preprocess-infer").run()


def run_infer(host: StageHost) -> None:
    """Run infer until the supervisor says stop; say what it builds while opening, and then what computes the masks."""
    infer = host.config.infer
    if host.spec.recorded_masks:
        _run_recorded(host)
        return
    if infer.host is not None:
        StageLoop(host, _remote_stage(host, infer.host), "preprocess-infer", "infer-overlay").run()
        return
    told = BuildTold(host)
    stage = InferStage(infer.segmenter, infer.options, infer.runtime, told)
    looped: Stage = stage
    if host.spec.chaos:
        from .reliability.chaos import ChaosInfer, ChaosStage, Switch

        switch = Switch(host)
        stage = ChaosInfer(infer.segmenter, infer.options, switch, infer.runtime, told)
        looped = ChaosStage(stage, switch)

    def opened() -> None:
        info = stage.segmenter.info
        host.say(
            "segmenter",
            name=info.name,
            runtime=info.runtime,
            passed_over=info.passed_over,
            weights_sha256=info.weights_sha256,
        )

    StageLoop(host, looped, "preprocess-infer", "infer-overlay").run(opened)


def _remote_stage(host: StageHost, address: str) -> "RemoteInferStage":
    """The stage that asks an infer host; its modules are imported only where there is one."""
    from .remote.infer_client import InferClient
    from .remote.infer_connection import HostSettings
    from .remote.remote_infer import RemoteInferStage
    from .remote.remote_wire import Terms

    infer = host.config.infer
    input_hw = segmenter_input_hw(infer.segmenter, infer.options)
    terms = Terms(infer.segmenter, input_hw, metadata.version("endostream"))

    def agreed(there: Terms) -> None:
        runtime = f"{there.runtime} at {address}"
        weights_sha256 = there.weights_sha256 or None
        host.say(
            "segmenter", name=there.segmenter, runtime=runtime, passed_over={}, weights_sha256=weights_sha256
        )

    def alive() -> None:
        host.busy()
        host.read_control()
        if host.stopping:
            raise Drop("network", "network: the run has ended")

    settings = HostSettings(address, None if infer.keys is None else Path(infer.keys), terms)
    client = InferClient(host.context, settings, mask_bytes(input_hw), host.clock, host.log, agreed)
    if host.spec.every_frame:
        return RemoteInferStage(client, infer.hang_timeout_s, infer.host_patience_s, alive)
    return RemoteInferStage(client, infer.reply_timeout_s, 0.0, alive)


def _run_recorded(host: StageHost) -> None:
    """Answer with what was recorded."""
    from .sessions.recorded_masks import RUNTIME, RecordedMasks

    def opened() -> None:
        name = host.config.infer.segmenter
        host.say("segmenter", name=name, runtime=RUNTIME, passed_over={}, weights_sha256=None)

    stage = RecordedMasks(host.spec.sources)
    StageLoop(host, stage, "preprocess-infer", "infer-overlay").run(opened)


class BuildTold:
    """Tells the supervisor how far a building is: each new per cent, else once a second as long as it gets on."""

    def __init__(self, host: StageHost) -> None:
        self._host = host
        self._last: tuple[str, int] | None = None
        self._told_ns = 0

    def __call__(self, what: str, percent: int) -> None:
        """Take a step of the building; raises StageBroken to end it if the run is over meanwhile."""
        self._host.read_control()
        if self._host.stopping:
            raise StageBroken(f"{what}: the run has ended")
        now_ns = self._host.clock.now_ns()
        if (what, percent) != self._last or now_ns - self._told_ns > _TELL_AGAIN_NS:
            self._last, self._told_ns = (what, percent), now_ns
            self._host.say("building", what=what, percent=percent)
