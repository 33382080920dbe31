-- Run through the project's API, which keeps no session: one operation, one statement.

-- newest --
-- The newest entries of a book; and, without an entry, those of `keys` that are not there (see `lacking`).
select * from (
    select e.id, e.key::text as key, e.entry
    from agentops.project_entries e
    where e.project = %(project)s and e.book = %(book)s
    order by e.id desc
    limit %(limit)s
) newest
union all
select null, k.value, null
from jsonb_array_elements_text(%(keys)s::jsonb) k (value)
where not exists (select from agentops.project_entries e where e.key = k.value::uuid);

-- add --
-- Entries that are there already stay as they are, so it may be sent twice. Then those of `keys` that are not there.
select e.id, e.book, e.key::text as key, e.entry
from agentops.add_project_entries(%(project)s, %(items)s::jsonb) e
union all
select null, null, k.value, null
from jsonb_array_elements_text(%(keys)s::jsonb) k (value)
where not exists (select from agentops.project_entries e where e.key = k.value::uuid);

-- lacking --
-- Which of these keys are not there: a database that was set back has lost entries.
select k.value as key
from jsonb_array_elements_text(%(keys)s::jsonb) k (value)
where not exists (select from agentops.project_entries e where e.key = k.value::uuid);
