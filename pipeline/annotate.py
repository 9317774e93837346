"""Starts the two stages of the annotation path with the loop that links them. Nothing else is decided here."""

from endostream.models.segmenter import segmenter_input_hw

from .host import StageHost
from .infer import InferStage
from .preprocess import PreprocessStage
from .stage import Stage, StageLoop


def run_preprocess(host: StageHost) -> None:
    """Run preprocess until the supervisor says stop."""
    settings, infer = host.config.preprocess, host.config.infer
    stage: Stage = PreprocessStage(
        segmenter_input_hw(infer.segmenter, infer.options),
        host.ring,
        settings.field_of_view == "auto",
        settings.interval_frames,
    )
    if host.spec.chaos:
        from .chaos import ChaosStage, Switch

        stage = ChaosStage(stage, Switch(host))
    StageLoop(host, stage, "capture-preprocess", "preprocess-infer").run()


def run_infer(host: StageHost) -> None:
    """Run infer until the supervisor says stop; once open, say what computes the masks."""
    infer = host.config.infer
    stage = InferStage(infer.segmenter, infer.options)
    looped: Stage = stage
    if host.spec.chaos:
        from .chaos import ChaosInfer, ChaosStage, Switch

        switch = Switch(host)
        stage = ChaosInfer(infer.segmenter, infer.options, switch)
        looped = ChaosStage(stage, switch)
    loop = StageLoop(host, looped, "preprocess-infer", "infer-overlay")
    loop.run(
        lambda: host.say("segmenter", name=stage.segmenter.info.name, runtime=stage.segmenter.info.runtime)
    )
