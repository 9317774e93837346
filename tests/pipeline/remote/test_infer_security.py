"""What leaves a tower: nothing in the clear, and not one byte of a tensor to whoever has not proved its key."""

from pathlib import Path

import pytest

from endostream.pipeline.remote.curve_keys import make_keys
from endostream.pipeline.remote.infer_client import HostDown

from .infer_rig import expected_mask, running_host, tensor, tower, wait_until
from .tcp_proxy import TcpProxy

LONGEST_HANDSHAKE_BYTES = 2000
"""A greeting, HELLO, INITIATE and no tensor (12,800 bytes) fit."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def other_keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "other")
    return tmp_path / "other"


@pytest.fixture
def pattern() -> bytes:
    """A run of bytes that stands in every tensor of the rig."""
    return tensor(10)[1000:1016]


def test_with_keys_neither_pixels_nor_names_travel_in_the_clear(keys: Path, pattern: bytes) -> None:
    with running_host(keys) as host, TcpProxy(host.target) as proxy, tower(proxy.address, keys) as one:
        assert one.comes()
        assert one.ask(10) == expected_mask(10)
        assert len(proxy.up) > len(tensor(10))
        for clear in (
            pattern,
            b"ENDO",
            b"bright",
            b"numpy",
            b"0.1.0",
            b"ababab",
            b"DEALER",
            expected_mask(10)[:8],
        ):
            assert clear not in proxy.up
            assert clear not in proxy.down


def test_the_same_recording_without_keys_shows_them_all(pattern: bytes) -> None:
    # So that the test above cannot pass by looking for the wrong thing.
    with running_host() as host, TcpProxy(host.target) as proxy, tower(proxy.address) as one:
        assert one.comes()
        assert one.ask(10) == expected_mask(10)
        for clear in (pattern, b"ENDO", b"bright", b"DEALER"):
            assert clear in proxy.up
        for clear in (b"numpy", b"ababab", expected_mask(10)[:8]):
            assert clear in proxy.down


def refused(host_keys: Path | None, tower_keys: Path | None) -> tuple[str, list[str]]:
    """What a tower says of a host that does not let it in, and what that says; no tensor byte has left."""
    with running_host(host_keys) as host, TcpProxy(host.target) as proxy:
        with tower(proxy.address, tower_keys) as one:
            wait_until(lambda: one.lines and host.lines, one.client)
            for value in range(3):
                with pytest.raises(HostDown):
                    one.ask(value, 0.5)
            assert not one.client.ready
            (line,) = one.lines
        assert len(proxy.up) < LONGEST_HANDSHAKE_BYTES * proxy.connections
        assert tensor(0)[1000:1016] not in proxy.up
        assert b"bright" not in proxy.up
        assert host.segmenter.order == []
        return line.partition("; ")[2], host.lines


def test_a_tower_whose_key_is_not_let_in_is_refused(keys: Path, other_keys: Path) -> None:
    (other_keys / "host.key").write_bytes((keys / "host.key").read_bytes())
    said, heard = refused(keys, other_keys)
    assert said.startswith("refused: the host does not know this tower's key. Try: copy its towers/tower.key")
    assert heard[0].startswith("127.0.0.1 refused: its key ")


def test_a_host_with_another_key_than_the_tower_trusts_gets_nothing(keys: Path, other_keys: Path) -> None:
    said, heard = refused(other_keys, keys)
    assert said == "refused: the hand-shake failed; another host.key, or no keys there"
    assert heard == [
        "127.0.0.1 refused: the hand-shake failed: not the keys of a tower let in, or another program"
    ]


def test_a_tower_without_keys_is_refused_by_a_host_with_keys(keys: Path) -> None:
    said, heard = refused(keys, None)
    assert said == "refused: the hand-shake failed; it wants keys: --keys DIR"
    assert heard == [
        "127.0.0.1 refused: the hand-shake failed: not the keys of a tower let in, or another program"
    ]


def test_a_tower_with_keys_gives_nothing_to_a_host_without(keys: Path) -> None:
    said, heard = refused(None, keys)
    assert said == "refused: the hand-shake failed; another host.key, or no keys there"
    assert heard == [
        "127.0.0.1 refused: the hand-shake failed: no endostream tower without keys, or another program"
    ]


def test_a_key_copied_while_the_host_runs_lets_its_tower_in(keys: Path, other_keys: Path) -> None:
    (other_keys / "host.key").write_bytes((keys / "host.key").read_bytes())
    with running_host(keys) as host, tower(host.address, other_keys) as one:
        wait_until(lambda: one.lines, one.client)
        public = (other_keys / "towers" / "tower.key").read_bytes()
        (keys / "towers" / "theatre-2.key").write_bytes(public)
        assert one.comes()
        assert one.ask(3) == expected_mask(3)
        assert list(host.host.towers.totals()) == ["theatre-2 (127.0.0.1)"]
    assert host.host.refused_connections >= 1


def test_a_damaged_key_among_the_towers_is_told_and_the_host_goes_on(keys: Path) -> None:
    with running_host(keys) as host, tower(host.address, keys) as one:
        assert one.comes()
        (keys / "towers" / "bad.key").write_text("nonsense")
        with tower(host.address, keys) as late:
            wait_until(lambda: late.lines, late.client)
            assert any("bad.key; cannot be read" in line for line in host.lines)
            (keys / "towers" / "bad.key").unlink()
            assert late.comes()
        assert one.ask(4) == expected_mask(4)
