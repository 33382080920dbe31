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

-- claim --
-- Rows that another worker's claim is looking at are skipped, not waited for. Emptying due_at says: what was queued
-- before is seen by this claim or, if it was stored while this one ran, by the release that follows; what is queued
-- after it fills due_at again. A customer who is still writing is left alone until a pause, or for as long as the cap
-- says.
with relaxed as materialized (
    select set_config('synchronous_commit', 'off', true)
), expired as (
    select id from agentops.conversations
    where lease_until < now()
    order by lease_until
    limit %(limit)s
    for update skip locked
), due as (
    select id from agentops.conversations
    where lease_until is null and due_at <= now()
      and (newest_at is null or newest_at <= now() - make_interval(secs => %(burst)s::float8)
           or due_at <= now() - make_interval(secs => %(burst_cap)s::float8))
    order by due_at
    limit %(limit)s
    for update skip locked
), picked as (
    select id from expired union all select id from due limit %(limit)s
), claimed as (
    update agentops.conversations c
    set lease_owner = %(owner)s::uuid, lease_until = now() + make_interval(secs => %(seconds)s::float8),
        fence = c.fence + 1, due_at = null
    from relaxed
    where c.id = any(array(select id from picked))
    returning c.id, c.lane, c.phone_id, c.customer, c.fence
)
select c.id as conversation_id, c.lane, c.phone_id, c.customer, c.fence,
       m.id, m.message_id, m.slug, m.correlation_id, m.kind, m.payload, m.attempts, m.received_at, m.turn
from claimed c
left join lateral (
    select i.id, i.message_id, i.slug, i.correlation_id, i.kind, i.payload, i.attempts, i.received_at, i.turn
    from agentops.inbox i
    where i.conversation_id = c.id and i.state = 'queued'
    order by i.id
    limit %(taken)s
) m on true
order by c.id, m.id;

-- begin --
-- Committed before the turn does anything, so that a message which kills its worker is counted too (a crash of the
-- database itself may lose the count, so nothing waits for the disk). A window of the customer's rate begins with the
-- first message in it; a message counts once, however often it is tried. It is asked for many conversations at once, so
-- it waits for none: one that somebody else holds at this moment is `busy`, and asked again. Rows are looked up by their
-- numbers, one by one, however many are queued: `finished_at is null` says queued too, and no index of all queued ones
-- answers it.
with relaxed as materialized (
    select set_config('synchronous_commit', 'off', true)
), asked as materialized (
    select * from jsonb_to_recordset(%(items)s::jsonb) as item (
        place integer, conversation bigint, owner uuid, fence bigint, turn bigint, ids bigint[],
        messages_limit integer, messages_seconds float8, tools_limit integer, tools_seconds float8)
), held as materialized (
    select asked.place, asked.turn, asked.ids, asked.messages_limit, lane.*
    from asked
    cross join lateral (
        select c.id, c.messages_since > now() - make_interval(secs => asked.messages_seconds) as running,
               coalesce(c.tools_since > now() - make_interval(secs => asked.tools_seconds), false)
                   and c.tools_count >= asked.tools_limit
                   and not exists (select from agentops.turn_steps s where s.inbox_id = asked.turn) as tools_over
        from agentops.conversations c
        where c.id = asked.conversation and c.fence = asked.fence and c.lease_owner = asked.owner
        limit 1
        for update of c skip locked
    ) lane
), message as materialized (
    select held.turn, queued.id, queued.new
    from held
    cross join lateral unnest(held.ids) as member (id)
    cross join lateral (
        select i.id, i.turn is null as new from agentops.inbox i
        where i.id = member.id and i.conversation_id = held.id and i.finished_at is null
        limit 1
    ) queued
), counted as (
    update agentops.inbox i set attempts = i.attempts + 1, turn = message.turn
    from message
    where i.id = any(array(select id from message)) and i.id = message.id and i.finished_at is null
    returning i.conversation_id, i.id, i.attempts, i.received_at, message.new
), begun as (
    select conversation_id, array_agg(id order by id) as ids, max(attempts) as attempts,
           min(received_at) as received_at, count(*) filter (where new) as new
    from counted
    group by conversation_id
), metered as (
    update agentops.conversations c
    set messages_since = case when held.running then c.messages_since else now() end,
        messages_count = case when held.running then c.messages_count else 0 end + begun.new,
        messages_told = case
            when case when held.running then c.messages_count else 0 end + begun.new > held.messages_limit
            then coalesce(case when held.running then c.messages_told end, held.turn)
            when held.running then c.messages_told end,
        tools_told = case when held.tools_over then coalesce(c.tools_told, held.turn) else c.tools_told end
    from held join begun on begun.conversation_id = held.id
    where c.id = any(array(select id from held)) and c.id = held.id
    returning c.id, c.messages_count > held.messages_limit as messages_over, c.messages_told, c.tools_told
)
select asked.place, held.id is null as busy, asked.turn,
       coalesce((select i.message_id from agentops.inbox i where i.id = asked.turn), 'turn ' || asked.turn) as message_id,
       begun.ids, coalesce(begun.attempts, 0) as attempts,
       greatest(begun.received_at, reply.resend_at) > flag.last_off as enabled,
       case when metered.messages_over then 'messages' when held.tools_over then 'tools' end as over,
       case when metered.messages_over then metered.messages_told when held.tools_over then metered.tools_told end
           is not distinct from asked.turn as tells,
       reply.id::text as outbox_id, reply.state as outbox_state, reply.body
from asked
cross join relaxed
cross join (select agentops.flag_last_off(%(flag)s) as last_off) as flag
left join held on held.place = asked.place
left join begun on begun.conversation_id = held.id
left join metered on metered.id = held.id
left join lateral (
    select o.id, o.state, o.body, o.resend_at from agentops.outbox o where o.inbox_id = asked.turn limit 1
) reply on true
where held.id is not null or (
    select true from agentops.conversations c
    where c.id = asked.conversation and c.fence = asked.fence and c.lease_owner = asked.owner limit 1);

-- finish --
with asked as materialized (
    select * from jsonb_to_recordset(%(items)s::jsonb) as item (
        place integer, conversation bigint, owner uuid, fence bigint, ids bigint[], state text, error text)
), held as materialized (
    select asked.place, asked.ids, asked.state, asked.error, lane.id
    from asked
    cross join lateral (
        select c.id from agentops.conversations c
        where c.id = asked.conversation and c.fence = asked.fence and c.lease_owner = asked.owner
        limit 1
        for update of c skip locked
    ) lane
), message as materialized (
    select held.place, held.id as conversation, held.state, held.error, member.id
    from held cross join lateral unnest(held.ids) as member (id)
), settled as (
    update agentops.inbox i set state = message.state, last_error = message.error, finished_at = now()
    from message
    where i.id = any(array(select id from message)) and i.id = message.id
      and i.conversation_id = message.conversation and i.finished_at is null
    returning message.place
)
select place, false as busy from settled
union all
select asked.place, true
from asked
where asked.place not in (select place from held) and (
    select true from agentops.conversations c
    where c.id = asked.conversation and c.fence = asked.fence and c.lease_owner = asked.owner limit 1);

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
