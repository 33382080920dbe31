from __future__ import annotations

import pytest

from agentops.agent.phones import COUNTRIES, normalised
from agentops.errors import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "+250788123456",
        "250788123456",
        "00250788123456",
        "0788123456",
        "788123456",
        "+250 788 123 456",
        "+250 (788) 123-456",
        " 0788.123.456 ",
        "+250\u00a0788\u00a0123\u00a0456",
    ],
)
def test_all_ways_to_write_a_number_are_one_number(text: str) -> None:
    assert normalised(text) == "+250788123456"


def test_another_countrys_number_is_understood_with_its_plus() -> None:
    assert normalised("+44 7911 123456") == "+447911123456"
    assert normalised("+254 712 345 678") == "+254712345678"
    assert normalised("0712345678", "KE") == "+254712345678"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "hello",
        "+25078812345",  # one digit short of a Rwandan number
        "+2507881234567",
        "78812345",
        "254712345678",  # another country's without its plus
        "+250088123456",
        "+2507881x3456",
        "٠٧٨٨١٢٣٤٥٦",  # digits, but not ours
        "+250788123456\x00",
        "+250788123456, +250788123457",
        "++250788123456",
        "9" * 500,
    ],
)
def test_what_is_no_number_is_refused_with_the_form_expected(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        normalised(text)
    assert caught.value.hint is not None
    assert "+250788123456" in caught.value.hint


def test_an_unknown_country_is_a_configuration_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="AGENT_COUNTRY") as caught:
        normalised("0788123456", "XX")
    assert caught.value.hint is not None
    assert "RW" in caught.value.hint


@pytest.mark.parametrize("name", COUNTRIES)
def test_each_countrys_example_is_a_number_of_that_country(name: str) -> None:
    country = COUNTRIES[name]
    assert normalised(country.example, name) == country.example
    national = country.example.removeprefix(f"+{country.code}")
    assert len(national) == country.digits
    assert normalised(national, name) == country.example
    assert normalised(country.trunk + national, name) == country.example
