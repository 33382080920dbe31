"""Entries of a project's books: the order in which they stand."""

from __future__ import annotations

from agentops.platforms.supabase.entries import Entry, in_order


def test_the_databases_order_counts_and_what_it_has_not_got_stands_last() -> None:
    here = [Entry("older", {}, sent=True), Entry("unsent", {}), Entry("b", {}, sent=True), Entry("lost", {}, sent=True)]
    stored = {key: Entry(key, {}, sent=True, place=place) for key, place in (("b", 7), ("a", 3), ("c", 12))}
    assert [each.key for each in in_order(here, stored, {"lost"})] == ["older", "a", "b", "c", "unsent", "lost"]


def test_what_concerns_this_machine_alone_stands_before_what_follows_it_in_the_file() -> None:
    here = [Entry("found", {}, shared=False), Entry("a", {}, sent=True), Entry("found later", {}, shared=False)]
    stored = {key: Entry(key, {}, sent=True, place=place) for place, key in enumerate(("theirs", "a", "theirs too"))}
    keys = [each.key for each in in_order(here, stored, frozenset())]
    assert keys == ["theirs", "found", "a", "theirs too", "found later"]


def test_without_the_database_the_files_order_counts() -> None:
    here = [Entry("a", {}), Entry("b", {}, sent=True), Entry("c", {}, shared=False)]
    assert in_order(here, {}, frozenset()) == here
