"""The infer stage as a client: what the network does to it becomes a counted drop with words for the screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.link import Received
from endostream.pipeline.remote.infer_client import HostDown, HostFailed
from endostream.pipeline.remote.infer_connection import HostSettings
from endostream.pipeline.remote.remote_infer import RemoteInferStage
from endostream.pipeline.stage import Drop
from endostream.pipeline.wire import Kind, TensorHeader

from ..core_fixtures import header
from .infer_rig import INPUT_HW, TERMS, expected_mask, running_host, tensor, tower


class FakeClient:
    """Answers as it is told, one after another; the clock moves a second with each wait for readiness."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.clock = VirtualClock()
        self.settings = HostSettings("tcp://gpuhost:5555", Path("keys"), TERMS)
        self.ready = False
        self.down = HostDown("cannot be reached")

    def wait_ready(self, limit_s: float, tick: Callable[[], None] = lambda: None) -> bool:
        tick()
        self.clock.advance_ns(1_000_000_000)
        return self.ready

    def ask(
        self, size_hw: tuple[int, int], payload: bytes, limit_s: float, tick: Callable[[], None]
    ) -> bytes:
        self.asked.append(payload)
        answer = self.answers.pop(0) if self.answers else HostDown("connection lost")
        if isinstance(answer, Exception):
            raise answer
        return answer


def received(payload: bytes | None) -> tuple[Received, TensorHeader]:
    tensor_header = TensorHeader(header(5), (1, 2, 3), INPUT_HW, (4,))
    return Received(Kind.TENSOR, tensor_header.pack(), payload, 0, 1, 1, b""), tensor_header


def stage_of(client: FakeClient, patience_s: float = 0.0, **more: Any) -> RemoteInferStage:
    return RemoteInferStage(client, 1.0, patience_s, **more)  # type: ignore[arg-type]


def test_a_mask_from_another_machine_is_joined_to_the_frame_that_never_left() -> None:
    with running_host() as host, tower(host.address) as one:
        stage = RemoteInferStage(one.client, 20.0)
        stage.open()
        assert one.client.ready
        message, tensor_header = received(tensor(10))
        output = stage.process(message, tensor_header)
    assert output.kind is Kind.MASK
    assert output.payload == expected_mask(10)
    assert (output.header.frame, output.header.transform, output.header.view) == (header(5), (1, 2, 3), (4,))


def test_live_a_lost_host_drops_the_frame_for_the_network_and_says_why() -> None:
    stage = stage_of(FakeClient(HostDown("no answer within 1 s")))
    with pytest.raises(Drop) as drop:
        stage.process(*received(tensor(1)))
    assert (drop.value.cause, drop.value.told) == ("network", "network: no answer within 1 s")


def test_a_failure_of_the_segmenter_there_is_told_as_one_and_asked_only_once() -> None:
    client = FakeClient(HostFailed("RuntimeError: out of memory"))
    with pytest.raises(Drop) as drop:
        stage_of(client, 30.0).process(*received(tensor(1)))
    assert (drop.value.cause, drop.value.told) == ("stage_error", "infer host: RuntimeError: out of memory")
    assert len(client.asked) == 1


def test_every_frame_sends_a_tensor_again_until_the_host_is_back() -> None:
    client = FakeClient(HostDown("connection lost"), HostDown("cannot be reached"), b"mask")
    output = stage_of(client, 30.0).process(*received(tensor(1)))
    assert output.payload == b"mask"
    assert client.asked == [tensor(1)] * 3


def test_every_frame_gives_a_frame_up_when_its_patience_is_over() -> None:
    client = FakeClient()
    with pytest.raises(Drop, match="network"):
        stage_of(client, 3.0).process(*received(tensor(1)))
    assert len(client.asked) == 4


def test_waiting_ends_with_the_run() -> None:
    def over() -> None:
        raise Drop("network", "network: the run has ended")

    with pytest.raises(Drop) as drop:
        stage_of(FakeClient(), 30.0, alive=over).process(*received(tensor(1)))
    assert drop.value.told == "network: the run has ended"


@pytest.mark.parametrize("payload", [None, b"", tensor(1)[:-1], tensor(1) + b"1"])
def test_what_is_no_tensor_of_the_size_agreed_upon_never_leaves(payload: bytes | None) -> None:
    client = FakeClient()
    with pytest.raises(Drop, match="invalid"):
        stage_of(client).process(*received(payload))
    assert client.asked == []


def test_live_opens_without_a_host() -> None:
    stage_of(FakeClient()).open()


@pytest.mark.parametrize(
    ("down", "error"),
    [
        (HostDown("cannot be reached"), ModelError),
        (HostDown("segmenter: fcm asked for", "terms"), ModelError),
        (HostDown("the hand-shake failed", "keys"), ConfigError),
    ],
)
def test_every_frame_does_not_begin_without_a_host(down: HostDown, error: type[Exception]) -> None:
    client = FakeClient()
    client.down = down
    with pytest.raises(error, match=f"infer.host: tcp://gpuhost:5555; {down.cause}"):
        stage_of(client, 30.0).open()
