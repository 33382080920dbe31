-- Run through the project's API, which keeps no session: one operation, one statement.

-- newest --
-- The newest entries of a book, newest first.
select key::text as key, entry
from agentops.project_entries
where project = %(project)s and book = %(book)s
order by id desc
limit %(limit)s;

-- add --
-- Entries that are there already stay as they are, so it may be sent twice.
select book, key::text as key, entry
from agentops.add_project_entries(%(project)s, %(items)s::jsonb);
