-- Stored events.

-- insert --
insert into agentops.logs (at, level, event, correlation_id, function, data)
select r.at, r.level, r.event, r.correlation_id, r.function, coalesce(r.data, '{}')
from jsonb_to_recordset(%(rows)s::jsonb)
    as r (at timestamptz, level text, event text, correlation_id text, function text, data jsonb);

-- expire --
-- In batches, so that no transaction is long and no lock is held for long.
with old as (
    select id from agentops.logs where at < now() - make_interval(days => %(days)s) order by at limit %(batch)s
), gone as (
    delete from agentops.logs l using old where l.id = old.id returning l.id
)
select count(*) as deleted from gone;
