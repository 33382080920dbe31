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
