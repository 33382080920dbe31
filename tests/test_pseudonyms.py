from __future__ import annotations

import re

from agentops import pseudonyms

KEY = pseudonyms.key("a-private-key\n")


def test_a_pseudonym_tells_its_kind_and_version_and_nothing_else() -> None:
    assert re.fullmatch(r"c1_[a-z2-7]{16}", pseudonyms.customer(KEY, "+250788000001"))
    assert re.fullmatch(r"m1_[a-z2-7]{16}", pseudonyms.message(KEY, "wamid.x"))


def test_the_same_number_is_the_same_pseudonym_under_the_same_key_only() -> None:
    one = pseudonyms.customer(KEY, "+250788000001")
    assert one == pseudonyms.customer(pseudonyms.key("a-private-key"), "+250788000001")
    assert len({one, pseudonyms.customer(KEY, "+250788000002"), pseudonyms.customer(b"other", "+250788000001")}) == 3


def test_kinds_are_apart() -> None:
    texts = [pseudonyms.customer(KEY, "RW.1")[3:], pseudonyms.message(KEY, "RW.1")[3:]]
    assert len(set(texts)) == 2
