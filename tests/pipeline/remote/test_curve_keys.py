"""Keys: made private, never overwritten, checked before use; and which addresses need them."""

import stat
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.remote.curve_keys import (
    check_host_keys,
    check_tower_keys,
    host_pair,
    host_public,
    keys_text,
    make_keys,
    tower_pair,
    towers_let_in,
)
from endostream.pipeline.remote.host_address import Unresolved, is_loopback, require_keys, resolve


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_for_their_owner_alone_and_nothing_else_is_left(keys: Path) -> None:
    names = sorted(str(path.relative_to(keys)) for path in keys.rglob("*") if path.is_file())
    assert names == ["host.key", "host.key_secret", "tower.key_secret", "towers/tower.key"]
    assert {mode(keys / name) for name in names} == {0o600}
    assert (mode(keys), mode(keys / "towers")) == (0o700, 0o700)
    assert [path.name for path in keys.iterdir() if path.is_dir()] == ["towers"]


def test_one_folder_serves_host_and_tower_and_the_halves_belong_together(keys: Path) -> None:
    check_host_keys(keys)
    check_tower_keys(keys)
    assert host_pair(keys).public == host_public(keys)
    assert towers_let_in(keys) == {tower_pair(keys).public: "tower"}


def test_making_keys_refuses_to_overwrite_any_and_changes_nothing(keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    (keys / "host.key").unlink()
    with pytest.raises(ConfigError, match=r"host\.key_secret; is there already"):
        make_keys(keys)
    assert not (keys / "host.key").exists()
    assert all(path.read_bytes() == before[path] for path in before if path.name != "host.key")


def test_each_side_can_make_its_own_pair_and_only_public_halves_travel(tmp_path: Path) -> None:
    host, tower = tmp_path / "host", tmp_path / "tower"
    make_keys(host, ["host"])
    make_keys(tower, ["tower"])
    with pytest.raises(ConfigError, match=r"no NAME\.key; expected the public key of each tower"):
        check_host_keys(host)
    with pytest.raises(ConfigError, match=r"host\.key; not there"):
        check_tower_keys(tower)
    (tower / "host.key").write_bytes((host / "host.key").read_bytes())
    (host / "towers" / "theatre-1.key").write_bytes((tower / "towers" / "tower.key").read_bytes())
    check_host_keys(host)
    check_tower_keys(tower)
    assert list(towers_let_in(host).values()) == ["theatre-1"]


def test_a_secret_that_others_can_read_is_refused(keys: Path) -> None:
    (keys / "host.key_secret").chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640; expected 0600\. Try: chmod 600"):
        host_pair(keys)


@pytest.mark.parametrize(
    "text", ["", "nonsense\n", 'public-key = "short"\n', 'public-key = "' + "\x7f" * 40 + '"\n']
)
def test_a_damaged_key_file_is_refused_by_name(keys: Path, text: str) -> None:
    (keys / "host.key").write_text(text)
    with pytest.raises(ConfigError, match=r"keys: .*host\.key; "):
        host_public(keys)


def test_a_pair_of_two_halves_that_do_not_belong_together_is_refused(keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other")
    text = (keys / "tower.key_secret").read_text()
    mine, foreign = tower_pair(keys).public.decode(), tower_pair(tmp_path / "other").public.decode()
    (keys / "tower.key_secret").write_text(text.replace(mine, foreign))
    with pytest.raises(ConfigError, match="its halves do not belong together"):
        tower_pair(keys)


def test_showing_keys_shows_no_secret(keys: Path) -> None:
    text = keys_text(keys)
    assert host_pair(keys).public.decode() in text
    assert host_pair(keys).secret.decode() not in text
    assert tower_pair(keys).secret.decode() not in text
    assert repr(host_pair(keys).secret) not in repr(host_pair(keys))
    assert text.endswith("serves as infer host\nserves as tower\n")


@pytest.mark.parametrize(
    ("number", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_what_never_leaves_the_machine(number: str, loopback: bool) -> None:
    assert is_loopback(number) is loopback


def test_a_name_counts_as_loopback_only_if_all_it_stands_for_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, 1, 6, "", ("127.0.0.1", port)), (2, 1, 6, "", ("192.168.1.5", port))]

    monkeypatch.setattr("endostream.pipeline.remote.host_address.socket.getaddrinfo", both)
    assert not resolve("tcp://localhost:5").loopback
    with pytest.raises(ConfigError, match="not on the loopback"):
        require_keys("infer.host", "tcp://localhost:5", None)
    require_keys("infer.host", "tcp://localhost:5", "keys")


def test_endpoints_hold_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("tcp://127.0.0.1:80").endpoints == ("tcp://127.0.0.1:80",)
    assert resolve("tcp://[::1]:80").endpoints == ("tcp://[::1]:80",)


def test_a_name_nobody_knows_is_refused_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("endostream.pipeline.remote.host_address.socket.getaddrinfo", nobody)
    with pytest.raises(Unresolved, match="gpuhost cannot be resolved"):
        resolve("tcp://gpuhost:5555")
    with pytest.raises(ConfigError, match=r"gpuhost cannot be resolved .*; expected a known host, or keys"):
        require_keys("infer.host", "tcp://gpuhost:5555", None)


@pytest.mark.parametrize(
    "address", ["gpuhost:5555", "tcp://gpuhost", "tcp://:5555", "tcp://a:70000", "ipc:///x"]
)
def test_what_is_no_tcp_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"expected tcp://HOST:PORT"):
        resolve(address)
