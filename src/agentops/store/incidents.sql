-- Incidents, and what was done in their course.

-- all --
select id, kind, status, reason, features, switched_off, opened_by, opened_at, restored_by, restored_at
from agentops.incidents
order by id desc;

-- one --
select id, kind, status, reason, features, switched_off, opened_by, opened_at, restored_by, restored_at
from agentops.incidents
where id = %(id)s::bigint;

-- timeline --
select at, actor, action, case when subject = %(id)s::bigint::text then '' else subject end as subject, detail
from agentops.audit
where (action like 'incident.%%' and subject = %(id)s::bigint::text) or detail ->> 'incident' = %(id)s::bigint::text
-- What one statement wrote has one time: the incident's own row first.
order by at, subject <> %(id)s::bigint::text, id;

-- remaining --
select case i.kind when 'dead-letter' then (select count(*) from agentops.inbox where state = 'dead')
                   when 'uncertain-reply' then (select count(*) from agentops.outbox where state = 'uncertain')
                   else 0 end as n
from agentops.incidents i where i.id = %(id)s::bigint;

-- close --
-- A kill switch ends by putting back what it switched off, never by a word.
with closed as (
    update agentops.incidents set status = 'closed'
    where id = %(id)s::bigint and status = 'open' and kind <> %(kill_switch)s
    returning id
)
insert into agentops.audit (actor, action, subject, detail)
select %(actor)s, 'incident.close', id::text, jsonb_strip_nulls(jsonb_build_object('reason', %(reason)s::text))
from closed
returning id;
