-- The messages received, unique by the sender's id.

-- receive --
-- The sender's user id or phone leads to the customer, the customer's key to the lane.
-- Lanes are locked in one order, so that two batches never wait for each other; a message that another delivery is
-- storing at this moment is waited for, and then known. Readers take messages only after the lane's row is theirs,
-- so they see every message whose arrival made the lane due.
with flag as (
    select agentops.flag_on(%(flag)s) as enabled
), incoming as (
    select m.*, m.answerable and flag.enabled as queues, coalesce(m.user_id, '') || '|' || coalesce(m.phone, '') as sender
    from flag, jsonb_to_recordset(%(messages)s::jsonb) as m (
        position integer, message_id text, phone_id text, user_id text, phone text, kind text,
        answerable boolean, payload jsonb)
), people as materialized (
    select who.sender, c.id, c.key, coalesce(c.phone, c.bsuid) as customer, cardinality(c.formerly) > 0 as moved
    from (select distinct sender, user_id, phone from incoming
          where user_id is not null or phone is not null order by user_id, phone) who
    cross join lateral agentops.customer(who.user_id, who.phone) c
), lanes as (
    insert into agentops.conversations as c (lane, phone_id, customer, due_at, newest_at)
    select i.phone_id || ':' || p.key as lane, min(i.phone_id), min(p.customer),
           case when bool_or(i.queues) then now() end, case when bool_or(i.queues) then now() end
    from incoming i join people p on p.sender = i.sender
    group by 1 order by 1
    on conflict (lane) do update set due_at = coalesce(c.due_at, excluded.due_at),
        newest_at = coalesce(excluded.newest_at, c.newest_at), customer = excluded.customer
    returning id, lane
), stored as (
    insert into agentops.inbox (message_id, conversation_id, slug, correlation_id, kind, payload, state, finished_at)
    select i.message_id, l.id, %(slug)s, %(correlation_id)s, i.kind, i.payload,
           case when i.queues then 'queued' else 'skipped' end, case when i.queues then null else now() end
    from incoming i
    left join people p on p.sender = i.sender
    left join lanes l on l.lane = i.phone_id || ':' || p.key
    order by i.position
    on conflict (message_id) do nothing
    returning message_id, state
), counted as (
    select count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'skipped') as skipped,
           coalesce(array_agg(message_id), '{}') as new
    from stored
)
select queued, skipped, new, flag.enabled, case when queued > 0 then pg_notify(%(channel)s, '')::text end as woken,
       array(select id from people where moved) as moved
from counted, flag;

-- queued --
select m.*
from unnest(%(ids)s::bigint[]) as lease (id)
cross join lateral (
    select conversation_id, i.id, message_id, slug, correlation_id, kind, payload, attempts, received_at, turn
    from agentops.inbox i
    where i.conversation_id = lease.id and i.state = 'queued'
    order by i.id
    limit %(taken)s
) m
order by m.conversation_id, m.id;

-- begin --
-- Committed before the turn does anything, so that a message which kills its worker is counted too (a crash of the
-- database itself may lose the count, so nothing waits for the disk). A window of the customer's rate begins with the
-- first message in it; a message counts once, however often it is tried.
with relaxed as materialized (
    select set_config('synchronous_commit', 'off', true)
), held as (
    select id, tools_count, tools_since,
           messages_since > now() - make_interval(secs => %(messages_seconds)s::float8) as running,
           coalesce(tools_since > now() - make_interval(secs => %(tools_seconds)s::float8), false)
               and tools_count >= %(tools_limit)s
               and not exists (select from agentops.turn_steps s where s.inbox_id = %(turn)s) as tools_over
    from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), counted as (
    update agentops.inbox i set attempts = i.attempts + 1, turn = %(turn)s
    from held, agentops.inbox before
    where i.id = any(%(ids)s::bigint[]) and i.conversation_id = held.id and i.state = 'queued' and before.id = i.id
    returning i.id, i.attempts, i.received_at, before.turn is null as new
), begun as (
    select array_agg(id order by id) as ids, max(attempts) as attempts, min(received_at) as received_at,
           count(*) filter (where new) as new
    from counted
), metered as (
    update agentops.conversations c
    set messages_since = case when held.running then c.messages_since else now() end,
        messages_count = case when held.running then c.messages_count else 0 end + begun.new,
        messages_told = case
            when case when held.running then c.messages_count else 0 end + begun.new > %(messages_limit)s
            then coalesce(case when held.running then c.messages_told end, %(turn)s)
            when held.running then c.messages_told end,
        tools_told = case when held.tools_over then coalesce(c.tools_told, %(turn)s) else c.tools_told end
    from held, begun
    where c.id = held.id and begun.ids is not null
    returning c.messages_count > %(messages_limit)s as messages_over, c.messages_told, c.tools_told
)
select begun.ids, coalesce(begun.attempts, 0) as attempts,
       greatest(begun.received_at, o.resend_at) > agentops.flag_last_off(%(flag)s) as enabled,
       case when metered.messages_over then 'messages' when held.tools_over then 'tools' end as over,
       case when metered.messages_over then metered.messages_told when held.tools_over then metered.tools_told end
           is not distinct from %(turn)s as tells,
       o.id::text as outbox_id, o.state as outbox_state, o.body
from held
cross join relaxed
cross join begun
left join metered on true
left join agentops.outbox o on o.inbox_id = %(turn)s;

-- finish --
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
)
update agentops.inbox i set state = %(state)s, last_error = %(error)s, finished_at = now()
from held where i.id = any(%(ids)s::bigint[]) and i.conversation_id = held.id and i.state = 'queued'
returning i.id;

-- fail --
-- All messages of the turn share its fate; a dead one takes its unsent reply along. `attempts` is what the failed turn
-- was, if it did not come to count it.
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), head as (
    select i.id, i.turn, greatest(i.attempts, job.attempts) as attempts
    from unnest(%(ids)s::bigint[], %(attempts)s::int[]) as job (id, attempts)
    join agentops.inbox i on i.id = job.id
    join held on i.conversation_id = held.id
    where i.state = 'queued'
    order by i.id
    limit 1
), failed as (
    update agentops.inbox i
    set last_error = %(error)s, attempts = greatest(i.attempts, head.attempts),
        state = case when greatest(i.attempts, head.attempts) >= %(limit)s then 'dead' else 'queued' end,
        finished_at = case when greatest(i.attempts, head.attempts) >= %(limit)s then now() end
    from head
    where i.id = any(%(ids)s::bigint[]) and i.state = 'queued' and (i.id = head.id or i.turn = head.turn)
    returning i.*
), unsent as (
    update agentops.outbox o set state = 'failed', error = %(error)s
    from failed f where o.inbox_id = f.turn and o.state = 'pending' and f.state = 'dead'
)
select id, message_id, slug, correlation_id, kind, payload, attempts, received_at, turn from failed order by id limit 1;

-- expire --
-- What failed stays as evidence. In batches, so that no transaction is long.
with old as (
    select id from agentops.inbox
    where state in ('done', 'skipped') and received_at < now() - make_interval(days => greatest(%(days)s::int, 8))
    order by received_at limit %(batch)s for update skip locked
), gone as (
    delete from agentops.inbox i using old where i.id = old.id returning i.id
), statuses as (
    delete from agentops.statuses s where s.ctid = any(array(
        select ctid from agentops.statuses
        where received_at < now() - make_interval(days => greatest(%(days)s::int, 8))
        order by received_at limit %(batch)s for update skip locked))
    returning 1
)
select (select count(*) from gone) + (select count(*) from statuses) as deleted;
