-- Every statement of a worker that writes names conversation, owner and fence, and locks the conversation's row first.

-- claim --
-- Rows that another worker's claim is looking at are skipped, not waited for. Emptying due_at says: what was queued
-- before is seen by this claim; what is queued after it fills due_at again.
with expired as (
    select id from agentops.conversations
    where lease_until < now()
    order by lease_until
    limit %(limit)s
    for update skip locked
), due as (
    select id from agentops.conversations
    where lease_until is null and due_at <= now()
    order by due_at
    limit %(limit)s
    for update skip locked
), picked as (
    select id from expired union all select id from due limit %(limit)s
)
update agentops.conversations c
set lease_owner = %(owner)s::uuid, lease_until = now() + make_interval(secs => %(seconds)s::float8),
    fence = c.fence + 1, due_at = null
from picked
where c.id = picked.id
returning c.id as conversation_id, c.lane, c.phone_id, c.customer, c.fence;

-- renew --
update agentops.conversations c
set lease_until = now() + make_interval(secs => %(seconds)s::float8)
from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) as held (id, fence)
where c.id = held.id and c.fence = held.fence and c.lease_owner = %(owner)s::uuid
returning c.id;

-- release --
-- What is still queued makes it due at once, what arrives at this moment has made it so itself.
update agentops.conversations c
set lease_owner = null, lease_until = null,
    due_at = case
        when not exists (select from agentops.inbox i where i.conversation_id = c.id and i.state = 'queued') then c.due_at
        else now() + make_interval(secs => coalesce(%(due_in)s::float8, 0)) end
where c.id = %(conversation)s and c.fence = %(fence)s and c.lease_owner = %(owner)s::uuid
returning c.due_at is not null as waits;

-- hold --
select id from agentops.conversations
where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
for update;
