"""Messages under fire: each is answered once, whatever dies; known-bad variants are found by the same campaign."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.fakes.campaign import Campaign, Size, campaign

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StackKeys

QUICK = ("quick", "short_leases")
SMALL = Size(25, 6, seconds=3.0, kills=2, variants=QUICK, uncertain_seconds=2, kinds=("worker", "machine"))
FULL = Size(500, 10, seconds=230.0, kills=100, stuck_seconds=180.0)
# Where nothing but a targeted kill happens.
TARGETED = Size(4, 2, seconds=0.2, kills=0, variants=QUICK, uncertain_seconds=8, senders=4)
# The promise that each known-bad variant breaks, and what it takes to see it.
BROKEN = {"ack_before_commit": "lost", "blind_resend": "sent twice", "dedupe_in_memory": "stored twice"}


def told(found: Campaign) -> str:
    """The figures, also for who runs `pytest -s`."""
    sys.stdout.write(f"\n{found.figures()}\n")
    return found.figures()


@pytest.mark.parametrize(
    "size", [pytest.param(SMALL, id="small"), pytest.param(FULL, marks=pytest.mark.long, id="full")]
)
def test_every_message_is_answered_once_whatever_is_killed(
    database_url: str, stack_keys: StackKeys, tmp_path: Path, size: Size
) -> None:
    found = campaign(database_url, tmp_path, stack_keys, size)
    assert found.findings() == {}, f"{told(found)}\n{found.findings()}"
    assert len(found.sent) == size.messages + len(size.aimed), told(found)
    assert sum(found.kills.values()) >= size.kills + 4, told(found)
    # Only a machine that cannot keep up gives up a message or lets the model time out, and says so.
    assert len(found.recorded) + found.apologies <= size.messages // 50, told(found)
    told(found)


@pytest.mark.long
@pytest.mark.parametrize("variant", BROKEN)
def test_each_known_bad_variant_breaks_its_own_promise(
    database_url: str, stack_keys: StackKeys, tmp_path: Path, variant: str
) -> None:
    found = campaign(database_url, tmp_path, stack_keys, replace(TARGETED, variants=(*QUICK, variant)))
    findings = found.findings()
    assert BROKEN[variant] in findings, told(found)
    assert not {*BROKEN.values()} - {BROKEN[variant]} & set(findings), told(found)


@pytest.mark.long
def test_nothing_is_found_where_nothing_is_broken(database_url: str, stack_keys: StackKeys, tmp_path: Path) -> None:
    assert campaign(database_url, tmp_path, stack_keys, TARGETED).findings() == {}
