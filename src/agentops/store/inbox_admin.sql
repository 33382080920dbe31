-- The inbox, for operators.

-- listed --
select i.id, i.state, c.customer, i.kind, i.attempts, i.received_at, i.finished_at, i.last_error as error, i.correlation_id
from agentops.inbox i left join agentops.conversations c on c.id = i.conversation_id
where %(state)s::text is null or i.state = %(state)s
order by i.id desc
limit %(limit)s;

-- one --
select i.id, i.state, c.customer, i.kind, i.attempts, i.received_at, i.finished_at, i.last_error as error, i.correlation_id,
       i.turn, i.payload, o.state as reply_state, o.error as reply_error
from agentops.inbox i
left join agentops.conversations c on c.id = i.conversation_id
left join agentops.outbox o on o.inbox_id = coalesce(i.turn, i.id)
where i.id = %(id)s::bigint;

-- states --
select i.id, i.state, i.conversation_id is not null as answerable, coalesce(c.lease_until > now(), false) as leased
from agentops.inbox i left join agentops.conversations c on c.id = i.conversation_id
where i.id = any(%(ids)s::bigint[]);

-- revive --
-- The conversation is locked first, as everywhere. A reply is its turn's, whichever of its messages is named here.
with lanes as (
    select c.id from agentops.conversations c
    where c.id in (select conversation_id from agentops.inbox where id = any(%(ids)s::bigint[]))
    order by c.id
    for update
), revived as (
    update agentops.inbox i set state = 'queued', attempts = 0, finished_at = null
    from lanes where i.id = any(%(ids)s::bigint[]) and i.state = 'dead' and i.conversation_id = lanes.id
    returning i.id, i.conversation_id, coalesce(i.turn, i.id) as turn
), unsent as (
    update agentops.outbox o set state = 'pending', error = null
    from revived where o.inbox_id = revived.turn and o.state = 'failed' and o.wamid is null
), due as (
    update agentops.conversations c set due_at = coalesce(least(c.due_at, now()), now())
    from lanes where c.id = lanes.id and c.id in (select conversation_id from revived)
), told as (
    insert into agentops.audit (actor, action, subject)
    select %(actor)s, 'inbox.retry', id::text from revived
)
select case when exists (select from revived) then pg_notify(%(channel)s, '')::text end as woken;

-- discard --
-- What a turn has paid for and decided stands as long as one of its messages may still be answered: done again without
-- it, the same turn could act twice.
with lanes as (
    select c.id, c.lease_until > now() as leased from agentops.conversations c
    where c.id in (select conversation_id from agentops.inbox where id = any(%(ids)s::bigint[]))
    order by c.id
    for update
), discarded as (
    update agentops.inbox i set state = 'skipped', last_error = %(error)s, finished_at = coalesce(i.finished_at, now())
    from lanes
    where i.id = any(%(ids)s::bigint[]) and i.conversation_id = lanes.id
      and (i.state = 'dead' or (i.state = 'queued' and lanes.leased is not true))
    returning i.id, coalesce(i.turn, i.id) as turn
), remaining as (
    select i.id, coalesce(i.turn, i.id) as turn
    from agentops.inbox i join lanes on i.conversation_id = lanes.id where i.state = 'queued'
    union all
    select i.id, coalesce(i.turn, i.id)
    from agentops.inbox i join lanes on i.conversation_id = lanes.id where i.state = 'dead'
), ended as (
    select distinct d.turn from discarded d
    where not exists (
        select from remaining r where r.turn = d.turn and r.id not in (select id from discarded))
), unsent as (
    update agentops.outbox o set state = 'failed', error = %(error)s
    from ended where o.inbox_id = ended.turn and o.state = 'pending'
), steps as (
    delete from agentops.turn_steps s using ended where s.inbox_id = ended.turn
)
insert into agentops.audit (actor, action, subject)
select %(actor)s, 'inbox.discard', id::text from discarded;
