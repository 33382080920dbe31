"""Sealed secrets open with the right key, name and version, and with nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentops import seal
from agentops.errors import UsageError

PRIVATE, PUBLIC = seal.new_key()


@settings(max_examples=25)
@given(st.text())
def test_what_was_sealed_opens(value: str) -> None:
    sealed = seal.seal(PUBLIC, "OPENAI_API_KEY", 3, value)
    assert seal.unseal(PRIVATE, "OPENAI_API_KEY", 3, sealed) == value


def test_the_same_value_is_never_sealed_alike() -> None:
    assert seal.seal(PUBLIC, "A", 1, "v") != seal.seal(PUBLIC, "A", 1, "v")


@pytest.mark.parametrize(("name", "version"), [("B", 1), ("A", 2)])
def test_bytes_moved_to_another_row_or_version_do_not_open(name: str, version: int) -> None:
    sealed = seal.seal(PUBLIC, "A", 1, "v")
    with pytest.raises(UsageError, match="does not open"):
        seal.unseal(PRIVATE, name, version, sealed)


def test_another_key_or_changed_bytes_do_not_open() -> None:
    sealed = seal.seal(PUBLIC, "A", 1, "v")
    other, _ = seal.new_key()
    for key, content in ((other, sealed), (PRIVATE, sealed[:-1] + bytes([sealed[-1] ^ 1])), (PRIVATE, b"short")):
        with pytest.raises(UsageError, match="does not open"):
            seal.unseal(key, "A", 1, content)


def test_the_public_key_follows_from_the_private_one() -> None:
    assert seal.public_of(PRIVATE) == PUBLIC


@pytest.mark.parametrize("key", ["", "x", "!" * 43, "A" * 10])
def test_a_text_that_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="not a valid key"):
        seal.public_of(key)
