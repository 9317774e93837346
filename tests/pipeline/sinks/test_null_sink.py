"""The null sink: the contract is all there is."""

from .sink_contract import SinkContract


class TestNullSink(SinkContract):
    address = "null"
