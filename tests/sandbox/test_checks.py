from __future__ import annotations

from typing import Any

import pytest

from agentops.sandbox.checks import refusal

GOOD: dict[str, Any] = {"model": "gpt-6-luna", "input": "hello"}
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def function(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "name": "f", "strict": True, "parameters": {**OBJECT, **changes}}


def test_a_good_request_is_not_refused() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "{}"}
    assert refusal(GOOD) is None
    assert refusal({**GOOD, "input": [call, output], "tools": [function()]}) is None


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"model": ""}, "missing_required_parameter", "'model'"),
        ({"input": []}, "missing_required_parameter", "'input'"),
        ({"input": ["text"]}, "invalid_type", "'input'"),
        ({"model": "gpt-3.5-turbo"}, "model_not_found", "'gpt-3.5-turbo'"),
        ({"stream": True}, "unsupported_parameter", "'stream'"),
        ({"previous_response_id": "resp_1"}, "unsupported_parameter", "'previous_response_id'"),
        ({"safety_identifier": "x" * 129}, "string_above_max_length", "'safety_identifier'"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0]"),
        ({"tools": [function(required=[])]}, "invalid_function_parameters", "'required'"),
        ({"tools": [function(additionalProperties=True)]}, "invalid_function_parameters", "'additionalProperties'"),
        ({"input": [{"type": "function_call_output", "call_id": "9", "output": ""}]}, None, "No tool call found"),
        ({"input": [{"type": "function_call", "call_id": "9", "name": "f"}]}, None, "No tool output found"),
    ],
)
def test_what_openai_refuses_is_refused(changes: dict[str, Any], code: str | None, words: str) -> None:
    found = refusal({**GOOD, **changes})
    assert found is not None
    assert found.code == code
    assert words in found.body()["error"]["message"]


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    found = refusal(body)
    assert found is not None
    assert found.status == 400


def test_a_schema_that_is_not_strict_may_be_loose() -> None:
    assert refusal({**GOOD, "tools": [{**function(required=[]), "strict": False}]}) is None
