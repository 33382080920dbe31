"""No phone number gets through, whatever it is wrapped in; what is no phone number stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentops.redact import mask_phone, scrub
from agentops.renderings import chains, hidden, plain
from tests.fakes.renderings import RENDERINGS

if TYPE_CHECKING:
    from uuid import UUID


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


@pytest.mark.parametrize("number", [788123456, -250788123456, 250788123456.0, -788123456.0, 10**16])
def test_a_phone_number_that_is_a_number_of_json_is_masked(number: float) -> None:
    shown = str(scrub(number))
    assert "***" in shown
    assert "8123" not in shown


@pytest.mark.parametrize(
    "number",
    [0, -1, 10000, 99_999_999, -99_999_999, 2.5, 1_795_000_000.25, 10**17, 10**400, 1e300, float("inf"), True, None],
)
def test_a_number_that_is_none_stays_what_it_was(number: object) -> None:
    found = scrub(number)
    assert (found, type(found)) == (number, type(number))


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


DIGITS = "250788123456"


def shown_digits(shown: str) -> str:
    """All digits that a reader could put together, base64 included."""
    clean = plain(shown)
    runs = [groups for text in (clean, *(held for _, held in hidden(clean))) for *_, groups in chains(text)]
    return " ".join("".join(groups) for groups in runs)


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize("around", ["{}", "to {} failed", '{{"from": "{}"}}', "id-{}", "msisdn_{}", "a={}&b=1", "x.{}"])
def test_every_rendering_is_masked_wherever_it_stands(rendering: str, around: str) -> None:
    written = RENDERINGS[rendering](DIGITS)
    value = written if around == "{}" else around.format(written)
    shown = str(scrub(value))
    assert "***" in shown
    assert "788123" not in shown_digits(shown)


def test_a_number_escaped_digit_by_digit_and_one_in_a_key_are_masked() -> None:
    assert DIGITS not in plain(str(scrub("".join(f"%{ord(digit):x}" for digit in DIGITS))))
    assert DIGITS not in str(scrub({DIGITS: {f"+{DIGITS}": 1}}))
    bare = str(RENDERINGS["base64"](DIGITS)).removeprefix("wamid.").rstrip("=")
    assert scrub(f"id {bare} end") == "id *** end"


@given(st.uuids(), st.sampled_from(["{}", "voucher {} of", "a={}&b", '"{}"']))
def test_a_uuid_stays(number: UUID, around: str) -> None:
    text = around.format(number)
    assert scrub(text) == text


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001 - the zone comes later


@given(MOMENTS, st.sampled_from([None, UTC]), st.sampled_from("T "), st.sampled_from(["{}", "at {} in", '"{}"']))
def test_an_iso_time_stays(moment: datetime, zone: object, separator: str, around: str) -> None:
    text = around.format(moment.replace(tzinfo=zone).isoformat(sep=separator))  # type: ignore[arg-type]  # a zone or none
    assert scrub(text) == text


@given(st.integers(0, 10**8 - 1), st.sampled_from(["{} RWF", "{:,} RWF", "{}.00", "amount={}"]))
def test_an_amount_stays(amount: int, form: str) -> None:
    assert scrub(form.format(amount)) == form.format(amount)


@given(st.floats(0, 10**6))
def test_a_duration_stays(seconds: float) -> None:
    text = f"took {seconds:.9f} s"
    assert scrub(text) == text


@pytest.mark.parametrize(
    "text", ["192.168.100.200:54321", "a" * 10 + "0123456789abcdef" * 4, "c1_abcdefgh23456723", "+2507***456"]
)
def test_addresses_digests_and_pseudonyms_stay(text: str) -> None:
    assert scrub(text) == text


@given(st.text(max_size=60))
def test_any_text_is_scrubbed_without_an_exception(text: str) -> None:
    assert isinstance(scrub(text), str)
