-- What the model costs in a day: functions of the schema, because a reservation is two rows, both or none.

-- reserve --
select refused, on_day
from agentops.reserve_cost(%(scope)s::text, %(micros)s::bigint, %(own)s::bigint, %(everyone)s::bigint);

-- settle --
select agentops.settle_cost(%(scope)s::text, %(day)s::date, %(bound)s::bigint, %(actual)s::bigint)::text;

-- used --
select reserved, spent from agentops.cost_days
where scope = %(scope)s and day = (now() at time zone 'utc' + make_interval(mins => %(offset_minutes)s::int))::date;

-- expire --
with old as (
    select scope, day from agentops.cost_days where day < (now() at time zone 'utc')::date - %(days)s::int
    order by day limit %(batch)s for update skip locked
), gone as (
    delete from agentops.cost_days c using old where c.scope = old.scope and c.day = old.day returning c.day
)
select count(*) as deleted from gone;
