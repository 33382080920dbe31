-- Limits, and what has been reserved under them.

-- stored --
select name, value, updated_by, updated_at from agentops.limits order by name;

-- reserve --
-- The day is the database's, begun `offset_minutes` before midnight UTC. A row that is there already is looked at again
-- once its lock is had: two callers can never both take the last unit.
insert into agentops.usage_days as u (scope, day, count, amount)
select %(scope)s, (now() at time zone 'utc' + make_interval(mins => %(offset_minutes)s::int))::date, 1, %(amount)s::bigint
where 1 <= coalesce(%(most)s::bigint, 1) and %(amount)s::bigint <= coalesce(%(sum)s::bigint, %(amount)s::bigint)
on conflict (scope, day) do update
set count = u.count + 1, amount = u.amount + excluded.amount
where u.count + 1 <= coalesce(%(most)s::bigint, u.count + 1)
  and u.amount + excluded.amount <= coalesce(%(sum)s::bigint, u.amount + excluded.amount)
returning count, amount;

-- used --
select count, amount from agentops.usage_days
where scope = %(scope)s and day = (now() at time zone 'utc' + make_interval(mins => %(offset_minutes)s::int))::date;

-- change --
-- A name whose value is null gets no limit; one in `cleared` goes back to its default.
with given as (
    select g.name, g.value from unnest(%(names)s::text[], %(values)s::bigint[]) as g (name, value)
), written as (
    insert into agentops.limits as l (name, value, updated_by)
    select g.name, g.value, %(actor)s from given g
    on conflict (name) do update set value = excluded.value, updated_by = excluded.updated_by, updated_at = now()
    where l.value is distinct from excluded.value
    returning l.name, l.value
), cleared as (
    delete from agentops.limits l where l.name = any(%(cleared)s::text[]) returning l.name
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'limit.set', name, jsonb_build_object('value', value) from written
    union all
    select %(actor)s, 'limit.default', name, '{}' from cleared
)
select name from written union all select name from cleared;
