"""The page's own `curl` and `psql` lines, with only host, key and DATABASE_URL replaced."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fakes.serve import Served

VOUCHERS = """
  SELECT status, COUNT(*)
  FROM vouchers
  WHERE created_at > NOW() - INTERVAL '7 days'
  GROUP BY status;
"""
AI_VOUCHERS = """
  SELECT COUNT(*), DATE(issued_at)
  FROM vouchers
  WHERE policy_number LIKE 'AI-%'
  GROUP BY DATE(issued_at)
  ORDER BY DATE(issued_at) DESC
  LIMIT 7;
"""


def shell(served: Served, line: str) -> str:
    """Run a line as the operator's shell would, after `eval "$(agentops status --env)"`."""
    exports = served.run("status", "--env")
    assert exports.returncode == 0, exports.stderr
    script = f"{exports.stdout}\n{line}"
    done = subprocess.run(
        ["/bin/bash", "-euc", script],
        env=dict(served.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pages_lookup_line_works(served: Served) -> None:
    line = """curl -sS -X POST $SUPABASE_URL/functions/v1/ai-lookup-customer \
        -H "Authorization: Bearer $SUPABASE_SERVICE_ROLE_KEY" \
        -H "Content-Type: application/json" \
        -d '{"msisdn": "+250788000000"}'"""
    assert json.loads(shell(served, line))["success"] is True


def test_the_pages_create_line_makes_a_voucher_that_its_statistics_count(served: Served, psql: str) -> None:
    line = """curl -sS -X POST $SUPABASE_URL/functions/v1/ai-create-voucher \
        -H "Authorization: Bearer $SUPABASE_SERVICE_ROLE_KEY" \
        -H "Content-Type: application/json" \
        -d '{"customer_msisdn":"+250788000000","amount":10000}'"""
    answer = json.loads(shell(served, line))
    assert (answer["success"], answer["status"], answer["amount"], answer["currency"]) == (True, "issued", 10000, "RWF")
    assert "issued" in shell(served, f'{psql} $DATABASE_URL -c "{VOUCHERS}"')
    assert "(1 row)" in shell(served, f'{psql} $DATABASE_URL -c "{AI_VOUCHERS}"')


def test_the_pages_verification_line_echoes_the_challenge(served: Served) -> None:
    line = (
        'curl -sS "$SUPABASE_URL/functions/v1/ai-whatsapp-webhook'
        '?hub.mode=subscribe&hub.verify_token=$WA_VERIFY_TOKEN&hub.challenge=test"'
    )
    assert shell(served, line) == "test"


def test_the_pages_quick_health_check_answers(served: Served) -> None:
    assert json.loads(shell(served, "curl -sS $SUPABASE_URL/functions/v1/ai-lookup-customer"))["success"] is True


@pytest.mark.parametrize("word", ["correlation_id.*abc-123", "ai.tool"])
def test_the_pages_greps_find_lines_in_piped_logs(served: Served, word: str) -> None:
    served.post("ai-lookup-customer", {"msisdn": "+250788000000"}, **{"x-correlation-id": "abc-123"})
    line = f"""for i in $(seq 50); do
        python3 -m agentops logs show ai-lookup-customer 2>/dev/null | grep "{word}" && exit 0; sleep 0.1
    done; exit 1"""
    assert "abc-123" in shell(served, line.replace("python3", __import__("sys").executable))
