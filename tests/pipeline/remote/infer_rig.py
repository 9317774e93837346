"""Infer hosts and towers for tests, in threads of this process, each with a ZeroMQ context of its own.

A host runs until its context manager ends; segmenters answer at once, or when the test lets them. It holds no test.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from endostream.configs.schema import tcp_address
from endostream.models.segmenter import ImageRgb, Output, Segmentation, SegmenterInfo
from endostream.pipeline.clock import MonotonicClock
from endostream.pipeline.infer import mask_bytes
from endostream.pipeline.remote.infer_client import InferClient
from endostream.pipeline.remote.infer_connection import HostSettings
from endostream.pipeline.remote.infer_host import HostPlace, InferHost
from endostream.pipeline.remote.remote_wire import Terms

from ..core_fixtures import zmq_context

INPUT_HW = (64, 64)
NAME = "bright"
PATIENCE_S = 20.0
TERMS = Terms(NAME, INPUT_HW, "0.1.0")


class Bright:
    """Marks what is bright; waits for ``gate`` before it answers, and fails on a picture all of 13."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.info = SegmenterInfo(NAME, INPUT_HW, "numpy, for tests", "ab" * 32)
        self.gate = gate
        self.order: list[int] = []
        self.entered = threading.Semaphore(0)

    def warm_up(self) -> None: ...

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        self.order.append(int(image_rgb[0, 0, 0]))
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_S)
        if (image_rgb == 13).all():
            raise RuntimeError("thirteen")
        return Segmentation(image_rgb[..., 0] > 127)

    def close(self) -> None: ...


def tensor(value: int) -> bytes:
    """A picture, its left half bright (200), its right half ``value``, with a view of everything behind it."""
    image = np.full((*INPUT_HW, 3), value, np.uint8)
    image[:, : INPUT_HW[1] // 2] = 200
    image[0, 0, 0] = value
    return image.tobytes() + b"\xff" * mask_bytes(INPUT_HW)


def expected_mask(value: int) -> bytes:
    """The packed mask of ``tensor(value)``."""
    image = np.frombuffer(tensor(value), np.uint8, INPUT_HW[0] * INPUT_HW[1] * 3).reshape(*INPUT_HW, 3)
    return np.packbits(image[..., 0] > 127).tobytes()


@dataclass
class RunningHost:
    """A host, what it said, and how to end it."""

    host: InferHost
    segmenter: Bright
    lines: list[str]
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.host.endpoints[0]

    @property
    def target(self) -> tuple[str, int]:
        """The same for a proxy."""
        return tcp_address(self.address)


@contextmanager
def running_host(
    keys: Path | None = None,
    segmenter: Bright | None = None,
    listen: str = "tcp://127.0.0.1:0",
    terms: Terms = TERMS,
) -> Iterator[RunningHost]:
    """A host in a thread."""
    lines: list[str] = []
    segmenter = segmenter or Bright()
    with zmq_context() as context:
        host = InferHost(
            context, HostPlace(listen, keys), lambda: segmenter, terms, lines.append, MonotonicClock()
        )
        running = RunningHost(host, segmenter, lines)
        problems: list[BaseException] = []

        def serve() -> None:
            try:
                host.run(running.over.is_set)
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.over.set()
            if segmenter.gate is not None:
                segmenter.gate.set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            host.close()
        assert problems == []


@dataclass
class Tower:
    """A client, and what it said."""

    client: InferClient
    lines: list[str]
    agreed: list[Terms]

    def ask(self, value: int, limit_s: float = PATIENCE_S) -> bytes:
        """The mask of ``tensor(value)``."""
        return self.client.ask(INPUT_HW, tensor(value), limit_s)

    def comes(self) -> bool:
        """Whether it finds its host."""
        return self.client.wait_ready(PATIENCE_S)


@contextmanager
def tower(address: str, keys: Path | None = None, terms: Terms = TERMS) -> Iterator[Tower]:
    """A tower's client."""
    lines: list[str] = []
    agreed: list[Terms] = []

    def tell(line: str, level: str) -> None:
        lines.append(line)

    with zmq_context() as context:
        settings = HostSettings(address, keys, terms)
        client = InferClient(context, settings, mask_bytes(INPUT_HW), MonotonicClock(), tell, agreed.append)
        try:
            yield Tower(client, lines, agreed)
        finally:
            client.close()


def wait_until(condition: Any, *clients: InferClient) -> None:
    """Serve ``clients`` until ``condition`` is true; fails after PATIENCE_S."""
    clock = MonotonicClock()
    limit_ns = clock.now_ns() + int(PATIENCE_S * 1e9)
    pause = threading.Event()
    while not condition():
        assert clock.now_ns() < limit_ns, "never came true"
        for client in clients:
            client.service()
        pause.wait(0.005)
