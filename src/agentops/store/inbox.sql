-- The messages received, unique by the sender's id.

-- receive --
-- Lanes are locked in one order, so that two batches never wait for each other; a message that another delivery is
-- storing at this moment is waited for, and then known. Readers take messages only after the lane's row is theirs,
-- so they see every message whose arrival made the lane due.
with flag as (
    select agentops.flag_on(%(flag)s) as enabled
), incoming as (
    select m.*, m.answerable and flag.enabled as queues
    from flag, jsonb_to_recordset(%(messages)s::jsonb) as m (
        position integer, message_id text, lane text, phone_id text, customer text, kind text,
        answerable boolean, payload jsonb)
), lanes as (
    insert into agentops.conversations as c (lane, phone_id, customer, due_at)
    select lane, min(phone_id), min(customer), case when bool_or(queues) then now() end
    from incoming where lane is not null
    group by lane order by lane
    on conflict (lane) do update set due_at = coalesce(c.due_at, excluded.due_at)
    returning id, lane
), stored as (
    insert into agentops.inbox (message_id, conversation_id, slug, correlation_id, kind, payload, state, finished_at)
    select i.message_id, l.id, %(slug)s, %(correlation_id)s, i.kind, i.payload,
           case when i.queues then 'queued' else 'skipped' end, case when i.queues then null else now() end
    from incoming i left join lanes l on l.lane = i.lane
    order by i.position
    on conflict (message_id) do nothing
    returning state
), counted as (
    select count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'skipped') as skipped
    from stored
)
select queued, skipped, flag.enabled, case when queued > 0 then pg_notify(%(channel)s, '')::text end as woken
from counted, flag;

-- queued --
select m.*
from unnest(%(ids)s::bigint[]) as lease (id)
cross join lateral (
    select conversation_id, i.id, message_id, slug, correlation_id, kind, payload, attempts, received_at
    from agentops.inbox i
    where i.conversation_id = lease.id and i.state = 'queued'
    order by i.id
    limit %(taken)s
) m
order by m.conversation_id, m.id;

-- begin --
-- Committed before the turn does anything, so that a message which kills its worker is counted too.
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), counted as (
    update agentops.inbox i set attempts = i.attempts + 1
    from held where i.id = %(id)s and i.conversation_id = held.id and i.state = 'queued'
    returning i.id, i.attempts
)
select i.state, i.received_at > agentops.flag_last_off(%(flag)s) as enabled,
       coalesce(counted.attempts, i.attempts) as attempts,
       o.id::text as outbox_id, o.state as outbox_state, o.body
from held
join agentops.inbox i on i.id = %(id)s and i.conversation_id = held.id
left join counted on counted.id = i.id
left join agentops.outbox o on o.inbox_id = i.id;

-- finish --
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
)
update agentops.inbox i set state = %(state)s, last_error = %(error)s, finished_at = now()
from held where i.id = %(id)s and i.conversation_id = held.id and i.state = 'queued'
returning i.id;

-- fail --
-- A dead message takes its unsent reply along. `attempts` is what the failed turn was, if it did not come to count it.
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), head as (
    select i.id, greatest(i.attempts, job.attempts) as attempts
    from unnest(%(ids)s::bigint[], %(attempts)s::int[]) as job (id, attempts)
    join agentops.inbox i on i.id = job.id
    join held on i.conversation_id = held.id
    where i.state = 'queued'
    order by i.id
    limit 1
), failed as (
    update agentops.inbox i
    set last_error = %(error)s, attempts = head.attempts,
        state = case when head.attempts >= %(limit)s then 'dead' else 'queued' end,
        finished_at = case when head.attempts >= %(limit)s then now() end
    from head where i.id = head.id
    returning i.*
), unsent as (
    update agentops.outbox o set state = 'failed', error = %(error)s
    from failed f where o.inbox_id = f.id and o.state = 'pending' and f.state = 'dead'
)
select id, message_id, slug, correlation_id, kind, payload, attempts, received_at from failed;
