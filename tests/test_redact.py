"""No phone number gets through, whatever it is wrapped in; what is no phone number stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentops.redact import mask_phone, scrub


def test_a_phone_shows_its_first_five_and_last_three() -> None:
    assert mask_phone("+250788123456") == "+2507***456"
    assert mask_phone("0788") == "***"


@pytest.mark.parametrize(
    "text",
    [
        "+250788123456",
        "250788123456",
        "+250 788 123 456",
        "0788-123-456",
        "call %2B250788123456 now",
        "https://wa.me/250788123456",
        "250788123456@s.whatsapp.net",
        '{"from": "250788123456"}',
    ],
)
def test_every_form_of_a_phone_number_is_masked(text: str) -> None:
    shown = str(scrub(text))
    assert "788123" not in shown.replace(" ", "").replace("-", "")
    assert "***" in shown


def test_a_message_id_holds_a_number_and_goes_whole() -> None:
    assert scrub("id wamid.HBgLMTY1MDM4Nzk0MzkVAgAS= end") == "id wamid.*** end"


def test_numbers_inside_of_things_are_found() -> None:
    assert scrub({"a": [250788123456, {"b": "+250788123456"}], "n": 1234, "ok": True}) == {
        "a": ["25078***456", {"b": "+2507***456"}],
        "n": 1234,
        "ok": True,
    }


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T14:00:00.123Z",
        "0b0e7a4e-8b1c-4f5e-9f6d-1234567890ab",
        "10000 RWF",
        "abc-123",
        "version 18.4",
        "127.0.0.1:54321",
    ],
)
def test_what_is_no_phone_number_stays(text: str) -> None:
    assert scrub(text) == text


@given(st.from_regex(r"\+[1-9][0-9]{9,13}", fullmatch=True), st.sampled_from(["{}", "to {}.", '"{}"', "a={}&b"]))
def test_no_e164_number_survives(phone: str, around: str) -> None:
    assert str(scrub(around.format(phone))) == around.format(mask_phone(phone))
