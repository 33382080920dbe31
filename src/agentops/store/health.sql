-- What `health` asks the database. Each works alone, so that one that fails hides no other.

-- connections --
select count(*) as used, current_setting('max_connections')::int as allowed
from pg_stat_activity where backend_type = 'client backend';

-- voucher_codes --
-- A live voucher holds its five digits: there are 100,000.
select count(*) as live from public.vouchers where status in ('issued', 'redeemed');

-- long_money --
-- Money transactions end within seconds; who holds the lock longer keeps the kill switch waiting.
select a.pid, a.application_name, extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and (l.classid::bigint << 32 | l.objid::bigint) = %(key)s::bigint
  and l.database = (select oid from pg_database where datname = current_database())
  and a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
order by a.xact_start;

-- queue --
select count(*) filter (where state = 'queued') as waiting,
       coalesce(extract(epoch from now() - min(received_at) filter (where state = 'queued')), 0)::float8 as oldest_seconds,
       count(*) filter (where state = 'dead') as dead
from agentops.inbox;

-- open_incidents --
select id, kind, reason from agentops.incidents where status = 'open' order by id;

-- kind --
select kind from agentops.stack;

-- replies --
select count(*) filter (where state = 'uncertain') as uncertain,
       count(*) filter (where state = 'sending' and sending_since < now() - interval '1 minute') as waiting
from agentops.outbox where state in ('uncertain', 'sending');
