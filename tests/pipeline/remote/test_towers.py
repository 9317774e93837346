"""Turns and counts of the towers a host serves."""

from endostream.pipeline.remote.towers import MOST_TOWERS, Tower, Towers


def towers_of(*names: str) -> tuple[Towers, list[Tower]]:
    towers = Towers()
    found = [towers.add(name.encode(), name, number) for number, name in enumerate(names)]
    return towers, [tower for tower in found if tower is not None]


def served(towers: Towers) -> list[tuple[str, int]]:
    turns = []
    while (turn := towers.next()) is not None:
        turns.append((turn[0].name, turn[1]))
    return turns


def test_of_each_tower_the_newest_tensor_alone_is_kept() -> None:
    towers, (one,) = towers_of("a")
    assert [towers.ask(one, number, b"") for number in (1, 2, 3)] == [None, 1, 2]
    assert served(towers) == [("a", 3)]
    assert (one.counts.received, one.counts.superseded) == (3, 2)


def test_towers_take_turns_however_often_one_asks() -> None:
    towers, (a, b, c) = towers_of("a", "b", "c")
    turns = []
    for number in range(4):
        for tower in (a, a, a, b, c):
            towers.ask(tower, number, b"")
        for _ in range(2):  # the host has time for two of the three
            turn = towers.next()
            assert turn is not None
            turns.append(turn[0].name)
    assert turns == ["a", "b", "c", "a", "b", "c", "a", "b"]


def test_a_tower_that_is_gone_leaves_its_counts_and_what_it_waited_for_is_lost() -> None:
    towers, (a, b) = towers_of("a", "b")
    towers.ask(a, 1, b"")
    towers.ask(b, 1, b"")
    towers.remove(a)
    assert served(towers) == [("b", 1)]
    again = towers.add(b"other socket", "a", 9)
    assert again is not None
    towers.ask(again, 1, b"")
    assert towers.totals()["a"]["received"] == 2
    assert towers.totals()["a"]["lost"] == 1


def test_there_is_room_for_so_many_towers_and_a_known_one_may_begin_anew() -> None:
    towers, known = towers_of(*(f"t{number}" for number in range(MOST_TOWERS)))
    assert towers.add(b"late", "late", 1) is None
    again = towers.add(b"t0", "t0", 77)
    assert again is known[0]
    assert known[0].epoch == 77
    assert len(towers) == MOST_TOWERS
