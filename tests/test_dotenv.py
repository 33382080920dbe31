"""Forms of .env files."""

from __future__ import annotations

import pytest

from agentops.dotenv import parse
from agentops.errors import UsageError

FORMS = {
    "A=1": {"A": "1"},
    "A=": {"A": ""},
    "A= # empty": {"A": ""},
    "A=#no\n": {"A": ""},
    "  export A = two words  # comment": {"A": "two words"},
    "A=b#c": {"A": "b#c"},
    "A=a=b": {"A": "a=b"},
    "A=$HOME": {"A": "$HOME"},
    "A='$x \\n # \" '": {"A": '$x \\n # " '},
    "A='two\nlines'\nB=1": {"A": "two\nlines", "B": "1"},
    'A="x\\n\\"y\\" \\$ \\\\ \\q" # c\nB=2': {"A": 'x\n"y" $ \\ \\q', "B": "2"},
    'A="-----BEGIN-----\nabc\n-----END-----\n"\n': {"A": "-----BEGIN-----\nabc\n-----END-----\n"},
    "\ufeffA=1\r\nB=2\r\n": {"A": "1", "B": "2"},
    "\n\n  # only\n\t\n": {},
    "": {},
    "A=1\nA=2": {"A": "2"},
    "A=1\n\n": {"A": "1"},
}


@pytest.mark.parametrize("text", FORMS)
def test_each_form_is_read(text: str) -> None:
    assert parse(text, "x.env") == FORMS[text]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("A=1\nnonsense\n", 2, "is no NAME=VALUE"),
        ("A=1\n\n1B=2", 3, "is no NAME=VALUE"),
        ("=x", 1, "is no NAME=VALUE"),
        ('A=1\nB="open\nC=3\n', 2, 'opens a " that is never closed'),
        ("A='one\ntwo' three\n", 2, "has text after the closing '"),
    ],
)
def test_what_is_no_setting_is_named_by_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError, match=f"x.env:{line}: the line {words}"):
        parse(text, "x.env")
