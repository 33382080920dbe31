-- Business numbers that may not send for now.

-- block --
-- The reply waits, uncounted.
with held as (
    select id, phone_id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), postponed as (
    update agentops.outbox o set state = 'pending', error = %(error)s, code = %(code)s
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id and o.state in ('pending', 'sending')
    returning o.inbox_id
), uncounted as (
    update agentops.inbox i set attempts = greatest(i.attempts - 1, 1)
    from postponed, held
    where i.conversation_id = held.id and postponed.inbox_id in (i.id, i.turn) and i.state = 'queued'
)
select agentops.block_number(held.phone_id, %(reason)s, %(code)s, %(seconds)s::float8, %(longest)s::float8,
                             %(generation)s, false) as seconds
from held;

-- lift --
-- The settings have changed since Meta refused.
delete from agentops.pacing p using agentops.generation g
where p.reason <> 'rate' and p.generation < g.n
returning p.phone_id;

-- proven --
-- What Meta has sent on, and took after it refused, proves that the number may send.
delete from agentops.pacing p
using agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
where o.id = any(%(ids)s::uuid[]) and p.phone_id = c.phone_id and p.refused_at < o.sending_since
returning p.phone_id;

-- wake --
-- A statement of its own: who holds a conversation may be waiting for the number's row, and not the other way round.
-- A lane that is locked is being let go of at this moment, and looks again by itself.
with waiting as (
    select c.id from agentops.conversations c
    where c.phone_id = any(%(phone_ids)s::text[]) and c.due_at > now()
      and exists (select from agentops.outbox o where o.conversation_id = c.id and o.state = 'pending')
    order by c.lane
    for update skip locked
), due as (
    update agentops.conversations c set due_at = now() from waiting where c.id = waiting.id
    returning c.id
)
select pg_notify(%(channel)s, '')::text as woken where exists (select from due);

-- blocked --
select p.phone_id, p.reason, p.code, extract(epoch from now() - p.since)::float8 as seconds,
       (select count(*) from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
        where o.state = 'pending' and c.phone_id = p.phone_id) as waiting
from agentops.pacing p
where p.until > now() or p.reason <> 'rate'
order by p.since;
