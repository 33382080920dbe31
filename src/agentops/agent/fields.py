"""The fields that tools' requests share: their types, limits, and what the model is told of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agentops.redact import scrub

# The largest whole amount whose minor units (× 100) fit the vouchers table's 32-bit column, rounded down.
LARGEST_AMOUNT = 21_000_000


def _plain(text: str) -> str:
    """One line without control characters, and without a phone number: the note is read by eyes."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return str(scrub(line))


class Body(BaseModel):
    """A tool's request: types are strict, unknown fields of existing callers are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Answer(BaseModel):
    """A tool's answer. Fields appear in the order in which they stand here."""

    success: bool = True


# An answer's time: ISO 8601 in UTC, by the database's clock.
Time = Annotated[datetime, Field()]
Phone = Annotated[
    str,
    Field(
        pattern=r"^\+[1-9][0-9]{6,14}$", description="The customer's phone number, international form (+250788123456)."
    ),
]
Amount = Annotated[int, Field(ge=1, le=LARGEST_AMOUNT, description="Whole amount in the currency's major unit.")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code; RWF if not given.")]
VoucherId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        description="The voucher's id (a UUID).",
    ),
    AfterValidator(str.lower),
]
Reason = Annotated[str, Field(max_length=500, description="Why, in a few words."), AfterValidator(_plain)]
