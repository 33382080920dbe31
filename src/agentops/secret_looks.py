"""What looks like a secret where none belongs, and the command that keeps it instead.

    slack.webhook = "https://hooks.slack.com/…"  →  agentops secrets set SLACK_WEBHOOK_URL

A field is known by its name (`token`, `app_secret`), a value by its beginning (`sk-`, `EAA`, `eyJ`) or by being a long
run of letters and digits, also with dashes between. Nothing here gives back what looks like one.
"""

from __future__ import annotations

import re

LOGIN = "agentops login"
_SET = "agentops secrets set "
_ANY = "NAME"
# How each provider's secrets begin; what is kept under no name of ours gets the word NAME.
_BEGINNINGS = (
    (re.compile(r"https?://hooks\.slack(?:-gov)?\.com\b", re.IGNORECASE), _SET + "SLACK_WEBHOOK_URL"),
    # The same without its beginning.
    (re.compile(r"(?<![A-Za-z0-9])T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{8,}"), _SET + "SLACK_WEBHOOK_URL"),
    (re.compile(r"(?<![A-Za-z0-9])sbp_[A-Za-z0-9_]{8,}"), LOGIN),
    (re.compile(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}"), _SET + "OPENAI_API_KEY"),
    (re.compile(r"(?<![A-Za-z0-9])whsec_[A-Za-z0-9+/=]{8,}"), _SET + "OPENAI_WEBHOOK_SECRET"),
    (re.compile(r"(?<![A-Za-z0-9])EAA[A-Za-z0-9]{16,}"), _SET + "WA_TOKEN"),
    (re.compile(r"(?<![A-Za-z0-9])(?:xox[a-z]|xapp)-[A-Za-z0-9-]{8,}"), _SET + _ANY),
    (re.compile(r"(?<![A-Za-z0-9])sb_secret_[A-Za-z0-9_-]{8,}"), _SET + _ANY),
    (re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\."), _SET + _ANY),
    (re.compile(r"-----BEGIN "), _SET + _ANY),
)
_LONG = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+=]{24,}")
_DASHED = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+=_-]{24,}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Words and numbers one after the other are a name (`prod-eu1-2026`); within one run people change neither often.
_CHANGES = re.compile(r"[0-9][A-Za-z]|[a-z][A-Z]")
_NAME = re.compile(r"[\w. -]{0,60}")
_FIELD = re.compile(
    r"token|secret|password|passwd|credential|webhook|(?:api|private|access|service)_?key", re.IGNORECASE
)
_BY_FIELD = {
    "slack": "SLACK_WEBHOOK_URL",
    "openai": "OPENAI_API_KEY",
    "whatsapp.app_secret": "WA_APP_SECRET",
    "whatsapp.verify_token": "WA_VERIFY_TOKEN",
    "whatsapp.token": "WA_TOKEN",
    "whatsapp.access_token": "WA_TOKEN",
}


def keeper(path: str, value: object) -> str | None:
    """The command that keeps such a secret; None where it does not look like one.

    Args:
        path: the field, with the tables that it stands in: `slack.channel`, `targets.prod.whatsapp.token`.
        value: what it was given; only texts can be secrets.
    """
    if not isinstance(value, str) or not value:
        return None
    for beginning, command in _BEGINNINGS:
        if beginning.search(value):
            return command
    name = path.rpartition(".")[2]
    if _FIELD.search(name) or _LONG.fullmatch(value) or _dashed(value):
        return _SET + _named(path, name)
    return None


def shown(word: str) -> str:
    """A word that somebody gave for a name, as it may be repeated: `…` for what may be anything else."""
    return word if _NAME.fullmatch(word) and keeper("", word) is None else "…"


def _dashed(value: str) -> bool:
    """Whether it is a key in parts: a UUID, or parts that are no words, or all small beside all great letters."""
    if not _DASHED.fullmatch(value):
        return False
    parts = re.split(r"[_-]", value)
    small, great = ([part for part in parts if is_so(part) and len(part) > 1] for is_so in (str.islower, str.isupper))
    return bool(_UUID.fullmatch(value) or len(_CHANGES.findall(value)) > 1 or (small and great))


def _named(path: str, name: str) -> str:
    if name.isupper():
        return name
    below = path.split(".")[-2:]
    return _BY_FIELD.get(".".join(below)) or (_BY_FIELD.get(below[0]) if _FIELD.search(name) else None) or _ANY
