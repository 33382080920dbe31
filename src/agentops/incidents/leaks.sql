-- Looking through stored events for what should not be in them.

-- lines --
select id, at, event, correlation_id, function, data::text as data
from agentops.logs
where id > %(after)s::bigint and at >= %(since)s::timestamptz
  and (%(until)s::timestamptz is null or at < %(until)s::timestamptz)
order by id
limit %(limit)s::bigint;

-- seen --
-- The places in these log rows that closed incidents name.
select distinct (p ->> 'log_id')::bigint as log_id, p ->> 'field' as field, p ->> 'customer' as customer
from agentops.incidents i, jsonb_array_elements(i.detail -> 'places') p
where i.kind = 'pii-leak' and i.status <> 'open' and (p ->> 'log_id')::bigint = any(%(rows)s::bigint[]);

-- report --
-- One incident at a time; a place that it names already is not added again.
with opened as (
    insert into agentops.incidents as i (kind, reason, detail, opened_by)
    values ('pii-leak', %(reason)s, jsonb_build_object('places', %(places)s::jsonb), %(actor)s)
    on conflict (kind) where kind = 'pii-leak' and status = 'open' do update
    set detail = jsonb_set(i.detail, '{places}', (
        select jsonb_agg(p order by p ->> 'log_id') from (
            select distinct p from jsonb_array_elements((i.detail -> 'places') || (excluded.detail -> 'places')) p
            limit %(listed)s::int) each))
    returning id, detail, xmax = 0 as new
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'incident.pii-leak', id::text,
           jsonb_build_object('hits', %(hits)s::int, 'places', %(places)s::jsonb)
    from opened
    where new or detail -> 'places' is distinct from
        (select i.detail -> 'places' from agentops.incidents i where i.id = opened.id)
)
select id from opened;
