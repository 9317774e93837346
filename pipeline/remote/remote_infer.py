"""The infer stage as a thin client: a tensor goes to an infer host on another machine, its mask comes back.

A stage like ``InferStage``, so that ledger, mask states and supervision stay what they are. A lost or slow network
is a fault like any other: in live mode the frame is dropped with cause ``network`` and the screen says why there is
no mask, at once while nobody is there and after ``reply_timeout_s`` where somebody is silent; in every-frame mode a
frame waits ``host_patience_s`` and is sent again. How bytes travel is the client's affair (``infer_client.py``).
"""

from collections.abc import Callable

from endostream.configs.errors import ConfigError, ModelError

from ..infer import mask_output, payload_bytes
from ..link import Received
from ..stage import Drop, Output
from ..wire import Kind, TensorHeader
from .infer_client import HostDown, HostFailed, InferClient

_LOOK_S = 0.1
_FIRST_CONNECTION_NS = 4_000_000_000
"""What a run's start waits for the host: more than one attempt takes."""


class RemoteInferStage:
    """Answers tensors with what the infer host answers.

    Args:
        client: asks the host.
        limit_s: longest wait for an answer.
        patience_s: how long a tensor is kept for a host that is lost, 0 for not at all.
        alive: called while an answer is waited for, to show that waiting is not hanging; may raise Drop.
    """

    name = "infer"
    takes = Kind.TENSOR
    sends_again = True

    def __init__(
        self,
        client: InferClient,
        limit_s: float,
        patience_s: float = 0.0,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._limit_s = limit_s
        self._patience_s = patience_s
        self._alive = alive

    def open(self) -> None:
        """Look for the host, a few seconds long. In live mode the video goes on without one; else that is the end.

        Raises:
            ModelError: no host, or one that refuses (every-frame mode).
            ConfigError: its keys or ours do not fit (every-frame mode).
        """
        client = self._client
        give_up_ns = client.clock.now_ns() + _FIRST_CONNECTION_NS
        while (
            not client.wait_ready(_LOOK_S) and not client.down.refused and client.clock.now_ns() < give_up_ns
        ):
            continue
        if client.ready or not self._patience_s:
            return
        message = f"infer.host: {client.settings.address}; {client.down.cause}"
        raise ConfigError(message) if client.down.refused == "keys" else ModelError(message)

    def process(self, message: Received, header: TensorHeader) -> Output:
        """Have one tensor segmented; raises Drop, with the words for the screen, if that cannot be had."""
        size_hw = header.size_hw
        if size_hw != self._client.settings.terms.input_hw or message.payload is None:
            raise Drop("invalid")
        if len(message.payload) != payload_bytes(size_hw):
            raise Drop("invalid")
        return mask_output(header, self._ask(message.payload))

    def _ask(self, payload: bytes) -> bytes:
        client = self._client
        give_up_ns = client.clock.now_ns() + int(self._patience_s * 1e9)
        while True:
            try:
                return client.ask(client.settings.terms.input_hw, payload, self._limit_s, self._alive)
            except HostFailed as error:
                raise Drop("stage_error", f"infer host: {error}") from error
            except HostDown as error:
                left_s = (give_up_ns - client.clock.now_ns()) / 1e9
                if left_s <= 0:
                    raise Drop("network", f"network: {error.cause}") from error
            client.wait_ready(left_s, self._alive)

    def close(self) -> None:
        """Hang up."""
        self._client.close()
