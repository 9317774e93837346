"""CI's share of ``tests/fuzz_links.py``: two thousand messages into every link; a hundred thousand if marked slow."""

import pytest

from ..fuzz_links import LINKS, fuzz_link
from ..fuzz_more import KINDS

FIRED_AT = {**dict.fromkeys(LINKS, fuzz_link), **KINDS}


@pytest.mark.parametrize("link", FIRED_AT)
def test_every_message_ends_in_one_counter_and_nothing_else_happens(link: str) -> None:
    assert FIRED_AT[link](link, 2000, 7)["failed"] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("link", FIRED_AT)
def test_a_hundred_thousand_messages_change_nothing(link: str) -> None:
    assert FIRED_AT[link](link, 100_000, 1)["failed"] == []
