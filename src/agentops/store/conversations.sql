-- Every statement of a worker that writes names conversation, owner and fence, and locks the conversation's row first.

-- renew --
update agentops.conversations c
set lease_until = now() + make_interval(secs => %(seconds)s::float8)
from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) as held (id, fence)
where c.id = held.id and c.fence = held.fence and c.lease_owner = %(owner)s::uuid
returning c.id;

-- release --
-- What is still queued makes it due (what has come meanwhile: since it came), unless it is to be let alone for a while;
-- what arrives at this moment has made it so itself.
update agentops.conversations c
set lease_owner = null, lease_until = null,
    due_at = case
        when not exists (select from agentops.inbox i where i.conversation_id = c.id and i.state = 'queued') then c.due_at
        else coalesce(now() + make_interval(secs => %(due_in)s::float8), c.due_at, now()) end
where c.id = %(conversation)s and c.fence = %(fence)s and c.lease_owner = %(owner)s::uuid
returning c.due_at is not null as waits;

-- release_all --
-- Locked in one order, as a batch of messages locks them. A release that a crash of the database loses is a lease that
-- runs out: nothing waits for the disk.
with relaxed as materialized (
    select set_config('synchronous_commit', 'off', true)
), held as (
    select c.id from agentops.conversations c
    join unnest(%(ids)s::bigint[], %(fences)s::bigint[]) as mine (id, fence) on c.id = mine.id and c.fence = mine.fence
    where c.id = any(%(ids)s::bigint[]) and c.lease_owner = %(owner)s::uuid
    order by c.lane
    for update of c
)
update agentops.conversations c
set lease_owner = null, lease_until = null,
    due_at = case
        when not exists (select from agentops.inbox i where i.conversation_id = c.id and i.state = 'queued') then c.due_at
        else coalesce(c.due_at, now()) end
from held cross join relaxed
where c.id = any(%(ids)s::bigint[]) and c.id = held.id
returning c.due_at is not null as waits;

-- hold --
select id from agentops.conversations
where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
for update;
