-- The row by which a server process says that it lives, and which generation of the settings it obeys.

-- beat --
-- The whole row each time: one that somebody deleted comes back. Answers the newest generation, which is the poll
-- that catches a change whose notice was lost.
insert into agentops.servers as s (id, host, pid, role, url, generation, functions)
values (%(id)s, %(host)s, %(pid)s, %(role)s, %(url)s, %(generation)s, %(functions)s::jsonb)
on conflict (id) do update
    set heartbeat_at = clock_timestamp(), generation = excluded.generation, functions = excluded.functions
returning (select n from agentops.generation) as newest;

-- remove --
delete from agentops.servers where id = %(id)s;

-- forget --
delete from agentops.servers where heartbeat_at < now() - interval '1 day';
