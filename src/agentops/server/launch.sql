-- deleted --
-- Functions that somebody took off, and nobody has deployed since: coming up again is no reason to bring them back.
select subject as slug
from (
    select distinct on (subject) subject, action
    from agentops.audit where starts_with(action, 'function.')
    order by subject, id desc
) newest
where action = 'function.delete';
