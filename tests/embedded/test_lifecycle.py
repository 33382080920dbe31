"""One server per state folder: who starts it, what kills it, what brings it back, when it ends."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import psycopg

from agentops import embedded
from tests.embedded.helpers import (
    User,
    dead,
    eventually,
    execute,
    kill,
    postmaster,
    serves,
    stop,
    stopped,
    supervisor,
    supervisors,
    user,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_five_processes_at_once_get_one_server_from_one_supervisor(fresh: Path) -> None:
    users = [User(fresh) for _ in range(5)]
    answers = [one.answer() for one in users]
    assert [answer["started"] for answer in answers].count(True) == 1
    assert len({value(str(answer["url"]), "select pg_postmaster_start_time()") for answer in answers}) == 1
    assert supervisors(fresh) == [supervisor(fresh)]
    for one in users:
        one.dismiss()


def test_the_server_survives_the_kill_of_whoever_started_it(state: Path) -> None:
    starter = User(state)
    assert starter.answer()["started"]
    server = postmaster(state)
    starter.kill()
    attachment = embedded.attach(state)
    assert not attachment.started
    assert serves(attachment.url)
    assert postmaster(state) == server


def test_a_killed_postmaster_is_restarted_and_a_waiting_client_is_served_again(state: Path) -> None:
    url = embedded.attach(state).url
    execute(url, "create table kept (name text)")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("insert into kept values ('before the kill')")
        kill(postmaster(state))
        eventually(lambda: serves(url))
    assert value(url, "select name from kept") == "before the kill"
    assert len(supervisors(state)) == 1
    execute(url, "drop table kept")


def test_a_client_that_comes_right_after_the_postmasters_kill_waits_for_the_recovery(state: Path) -> None:
    embedded.attach(state)
    kill(postmaster(state))
    assert serves(embedded.attach(state).url)


def test_a_server_that_is_killed_again_and_again_comes_back_each_time(state: Path) -> None:
    url = embedded.attach(state).url
    for _ in range(3):
        server = postmaster(state)
        kill(server)
        eventually(lambda: serves(url))
        assert postmaster(state) != server


def test_a_killed_supervisor_leaves_no_server_and_the_next_client_starts_a_fresh_one(state: Path) -> None:
    with user(state) as first:
        first.answer()
        server = postmaster(state)
        kill(supervisor(state))
        eventually(lambda: stopped(state))
        assert dead(server)
        attachment = embedded.attach(state)
        assert attachment.started
        assert serves(attachment.url)


def test_a_client_that_comes_right_after_the_supervisors_kill_is_served(state: Path) -> None:
    embedded.attach(state)
    server = postmaster(state)
    kill(supervisor(state))
    attachment = embedded.attach(state)
    assert serves(attachment.url)
    assert postmaster(state) != server


def test_the_server_stops_after_the_idle_time_and_not_while_somebody_is_there(state: Path) -> None:
    with user(state, idle_seconds=0.3) as visitor:
        visitor.answer()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # more than three idle times
            assert embedded.running(state)
            time.sleep(0.05)
        visitor.kill()
        eventually(lambda: stopped(state))
    assert not embedded.running(state)


def test_a_request_to_stop_waits_for_the_last_user_and_not_for_the_idle_time(state: Path) -> None:
    with user(state, idle_seconds=600) as visitor:
        visitor.answer()
        embedded.stop_when_idle(state)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert embedded.running(state)
            time.sleep(0.05)
        visitor.dismiss()
        eventually(lambda: stopped(state))


def test_a_client_that_comes_while_the_server_stops_gets_a_fresh_one(state: Path) -> None:
    for _ in range(3):
        assert serves(embedded.attach(state).url)
        embedded.release(state)
        embedded.stop_when_idle(state)


def test_data_outlive_a_stop_and_a_start(state: Path) -> None:
    url = embedded.attach(state).url
    execute(url, "create table kept as select 'yes' as answer")
    embedded.release(state)
    stop(state)
    attachment = embedded.attach(state)
    assert attachment.started
    assert value(attachment.url, "select answer from kept") == "yes"
    execute(attachment.url, "drop table kept")


def test_attaching_twice_in_a_process_counts_once(state: Path) -> None:
    first = embedded.attach(state)
    second = embedded.attach(state)
    assert (first.started, second.started) == (True, False)
    assert first.url == second.url
    embedded.release(state)
    stop(state)


def test_a_dropped_database_is_created_again(state: Path) -> None:
    url = embedded.attach(state).url
    execute(url.replace("/agentops?", "/postgres?"), "drop database agentops")
    assert not serves(url)
    assert serves(embedded.attach(state).url)


def test_a_supervisor_whose_folder_was_removed_stops(fresh: Path) -> None:
    embedded.attach(fresh, idle_seconds=0.5)
    pids = supervisors(fresh)
    fresh.rename(fresh.with_name("elsewhere"))
    eventually(lambda: supervisors(fresh) == [])
    assert len(pids) == 1
    fresh.with_name("elsewhere").rename(fresh)


def test_a_user_counts_again_when_its_folder_was_made_anew(fresh: Path) -> None:
    embedded.attach(fresh, idle_seconds=0.2)
    fresh.rename(fresh.with_name("elsewhere"))
    eventually(lambda: supervisors(fresh) == [])
    shutil.rmtree(fresh.with_name("elsewhere"))
    assert serves(embedded.attach(fresh, idle_seconds=0.2).url)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        assert embedded.running(fresh)
        time.sleep(0.05)


def test_a_removed_socket_is_made_again(state: Path) -> None:
    attachment = embedded.attach(state, idle_seconds=1)
    (attachment.socket_dir / ".s.PGSQL.5432").unlink()
    assert serves(embedded.attach(state).url)
