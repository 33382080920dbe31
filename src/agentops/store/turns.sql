-- The model's steps of turns that are not settled.

-- recorded --
select items, text, usage, model, allowed
from agentops.turn_steps
where inbox_id = %(turn)s
order by ordinal;

-- record --
-- The customer's minute begins with its first tool call; what is over the limit in it is not allowed.
with held as (
    select id, case when tools_since > now() - make_interval(secs => %(seconds)s::float8) then tools_count else 0 end as used
    from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), reserved as (
    update agentops.conversations c
    set tools_since = case when held.used = 0 then now() else c.tools_since end,
        tools_count = held.used + %(calls)s::integer,
        tools_told = case when held.used = 0 then null else c.tools_told end
    from held where c.id = held.id and %(calls)s::integer > 0
)
insert into agentops.turn_steps (inbox_id, ordinal, items, text, usage, model, allowed)
select %(turn)s, %(ordinal)s, %(items)s::jsonb, %(text)s, %(usage)s::jsonb, %(model)s,
       greatest(least(%(calls)s::integer, %(limit)s - held.used), 0)
from held
on conflict (inbox_id, ordinal) do update set items = excluded.items
returning allowed;

-- forget --
delete from agentops.turn_steps where inbox_id = %(turn)s;
