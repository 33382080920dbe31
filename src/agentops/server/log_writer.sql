-- Stored events.

-- insert --
insert into agentops.logs (at, level, event, correlation_id, function, data)
select r.at, r.level, r.event, r.correlation_id, r.function, coalesce(r.data, '{}')
from jsonb_to_recordset(%(rows)s::jsonb)
    as r (at timestamptz, level text, event text, correlation_id text, function text, data jsonb);
