"""What infer tells while it builds an engine: enough to be seen and to be left alone, and no more than is new."""

import pytest
import zmq

from endostream.pipeline.annotate import BuildTold
from endostream.pipeline.stage import StageBroken

from .core_fixtures import clock_of, host_rig


def test_each_new_per_cent_is_told_once_and_a_step_without_one_each_second() -> None:
    with zmq.Context() as context, host_rig("infer", context) as rig:
        told = BuildTold(rig.host)
        for percent in (0, 0, 1, 1, 1, 2):
            told("building engine", percent)
        assert [message["percent"] for message in rig.said("building")] == [0, 1, 2]
        for _ in range(30):
            clock_of(rig.host).advance_ns(100_000_000)
            told("building engine", 2)
        assert [message["percent"] for message in rig.said("building")] == [0, 1, 2, 2, 2]
        assert {message["what"] for message in rig.said("building")} == {"building engine"}


@pytest.mark.parametrize("how", ["stop", "closed"])
def test_a_run_that_ends_meanwhile_ends_the_building(how: str) -> None:
    with zmq.Context() as context, host_rig("infer", context) as rig:
        told = BuildTold(rig.host)
        told("building engine", 0)
        if how == "stop":
            rig.ours.send({"t": "stop"})
        else:
            rig.ours.close()
        with pytest.raises(StageBroken, match="building engine: the run has ended"):
            told("building engine", 1)
