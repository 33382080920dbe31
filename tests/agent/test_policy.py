from __future__ import annotations

import hashlib

import pytest

from agentops.agent import policy
from agentops.agent.policy import Principal, Refused
from tests.fakes.stacks import bare_stack

PHONE, OTHER = "+250788000001", "+250788000002"
OPERATOR = Principal("http", "service_role", operator=True)
CUSTOMER = Principal("chat", "customer", PHONE)
STAFF = Principal("chat", "staff", PHONE, staff=True)
NOBODY = Principal("http", "anonymous")


def whose(principal: Principal, named: object) -> str:
    return policy.customer(principal, named, "Invalid msisdn parameter", "RW")


def test_a_customer_is_who_they_are_whatever_the_model_says() -> None:
    assert whose(CUSTOMER, None) == PHONE
    assert whose(CUSTOMER, "0788000001") == PHONE
    with pytest.raises(Refused) as caught:
        whose(CUSTOMER, OTHER)
    assert (caught.value.status, caught.value.event) == (403, "unauthorized")
    assert policy.owner(CUSTOMER) == PHONE


def test_staff_may_name_another_and_otherwise_mean_themselves() -> None:
    assert whose(STAFF, OTHER) == OTHER
    assert whose(STAFF, None) == PHONE
    assert policy.owner(STAFF) is None


@pytest.mark.parametrize("named", [None, 250788000001, ["+250788000001"], "", "nonsense"])
def test_an_operator_must_name_a_customer(named: object) -> None:
    assert whose(OPERATOR, OTHER) == OTHER
    with pytest.raises(Refused) as caught:
        whose(OPERATOR, named)
    assert (caught.value.status, caught.value.error) == (400, "Invalid msisdn parameter")


def test_nobody_may_do_nothing() -> None:
    for act in (policy.admit, policy.owner):
        with pytest.raises(Refused) as caught:
            act(NOBODY)
        assert (caught.value.status, caught.value.error) == (401, "unauthorized")


def test_staff_are_the_senders_that_the_setting_lists() -> None:
    stack = bare_stack(secrets={"AGENT_STAFF_MSISDNS": "0788000001; x, +254712345678"})
    assert policy.sender(PHONE, stack).staff
    assert policy.sender("+254712345678", stack).staff
    customer = policy.sender(OTHER, stack)
    assert not customer.staff
    assert not customer.operator
    assert OTHER not in customer.actor
    assert customer.actor != policy.sender("+250788111002", stack).actor
    # Keyed: who does not know the stack's key cannot find the number by trying all that fit the mask.
    assert customer.actor.rpartition(" ")[2] != hashlib.sha256(OTHER.encode()).hexdigest()[:8]
    assert not policy.sender(PHONE, bare_stack()).staff
