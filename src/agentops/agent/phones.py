"""Phone numbers as E.164: `+250788123456`.

`+250 788 123 456`, `00250788123456`, `250788123456`, `0788-123-456` and `788123456` are the same number in Rwanda.
A number that is written with `+` or `00` may be from anywhere; the other forms are read as the configured country's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentops.errors import UsageError

DEFAULT_COUNTRY = "RW"


@dataclass(frozen=True, slots=True)
class Country:
    """A country's calling code, the length of its national numbers, what is dialled before them at home."""

    code: str
    digits: int
    trunk: str
    example: str


COUNTRIES = {
    "RW": Country("250", 9, "0", "+250788123456"),
    "BI": Country("257", 8, "", "+25779123456"),
    "CD": Country("243", 9, "0", "+243812345678"),
    "ET": Country("251", 9, "0", "+251911234567"),
    "GH": Country("233", 9, "0", "+233241234567"),
    "KE": Country("254", 9, "0", "+254712345678"),
    "MW": Country("265", 9, "0", "+265991234567"),
    "MZ": Country("258", 9, "", "+258821234567"),
    "NG": Country("234", 10, "0", "+2348031234567"),
    "SN": Country("221", 9, "", "+221771234567"),
    "TZ": Country("255", 9, "0", "+255712345678"),
    "UG": Country("256", 9, "0", "+256772123456"),
    "ZA": Country("27", 9, "0", "+27821234567"),
    "ZM": Country("260", 9, "0", "+260955123456"),
}
_BY_CODE = {country.code: country for country in COUNTRIES.values()}
_SEPARATORS = re.compile(r"[ \u00a0().-]")
_INTERNATIONAL = re.compile(r"(?:\+|00)([1-9][0-9]{6,14})")


def within(text: str) -> bool:
    """Whether an identifier holds a number of a country of the table, as dialled from abroad or at home."""
    runs = [run.removeprefix("00") for run in re.findall(r"[0-9]{9,17}", text)]
    return any(
        (run.startswith(country.code) and len(run) == len(country.code) + country.digits)
        or (country.trunk and run.startswith(country.trunk) and len(run) == len(country.trunk) + country.digits)
        for run in runs
        for country in COUNTRIES.values()
    )


def normalised(text: str, country: str = DEFAULT_COUNTRY) -> str:
    """The number in E.164.

    Args:
        text: a number as people write it: spaces, dots, dashes and brackets between its digits do not matter.
        country: whose national forms are understood, as two letters (the stack's setting AGENT_COUNTRY).

    Raises:
        UsageError: this is no number, or one of the wrong length; the hint gives the form that is expected.
    """
    home = COUNTRIES.get(country.upper())
    if home is None:
        raise UsageError(f"AGENT_COUNTRY={country!r} is not known", f"it may be {', '.join(sorted(COUNTRIES))}")
    compact = _SEPARATORS.sub("", text.strip())
    international = _INTERNATIONAL.fullmatch(compact)
    digits = international[1] if international else _completed(compact, home)
    if digits is None or not _fits(digits):
        raise UsageError("not a phone number", f"expected a number like {home.example}, or {_national(home)}")
    return f"+{digits}"


def _completed(compact: str, home: Country) -> str | None:
    """The international digits of a number written without `+`: with the country's code, the trunk prefix, or bare."""
    if not (compact.isascii() and compact.isdigit()):
        return None
    for prefix in (home.code, home.trunk, ""):
        national = compact.removeprefix(prefix)
        if compact.startswith(prefix) and len(national) == home.digits and national[0] != "0":
            return home.code + national
    return None


def _fits(digits: str) -> bool:
    """Whether a number of a country of the table has that country's length; other countries' lengths are not known."""
    for length in (2, 3):
        country = _BY_CODE.get(digits[:length])
        if country is not None:
            return len(digits) == length + country.digits and digits[length] != "0"
    return True


def _national(home: Country) -> str:
    return f"{home.digits} digits with or without {home.code}" + (f" or a leading {home.trunk}" if home.trunk else "")


def national_forms(phone: str) -> list[str]:
    """The digits of an E.164 number as they are dialled and written at home; none where its country is not known."""
    digits = phone.removeprefix("+")
    for length in (2, 3):
        country = _BY_CODE.get(digits[:length])
        if country is not None:
            national = digits[length:]
            return [f"{country.trunk}{national}", national] if country.trunk else [national]
    return []
