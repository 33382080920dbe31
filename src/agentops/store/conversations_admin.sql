-- Conversations, for operators.

-- listed --
select c.id, c.customer, c.phone_id, coalesce(i.messages, 0) as messages, coalesce(i.queued, 0) as queued, i.last_at,
       coalesce(c.lease_until > now(), false) as working
from agentops.conversations c
left join lateral (
    select count(*) as messages, count(*) filter (where state = 'queued') as queued, max(received_at) as last_at
    from agentops.inbox where conversation_id = c.id
) i on true
order by i.last_at desc nulls last, c.id desc
limit %(limit)s;

-- named --
select c.id, c.customer, c.phone_id, coalesce(i.messages, 0) as messages, coalesce(i.queued, 0) as queued, i.last_at,
       coalesce(c.lease_until > now(), false) as working
from agentops.conversations c
left join lateral (
    select count(*) as messages, count(*) filter (where state = 'queued') as queued, max(received_at) as last_at
    from agentops.inbox where conversation_id = c.id
) i on true
where c.id = %(id)s::bigint or c.customer = any(%(customers)s::text[])
order by c.id;

-- said --
select created_at as at, item from agentops.history where conversation_id = %(id)s::bigint order by id;

-- forget --
-- History and replies go with the conversation. Its messages are taken out of it in the same statement, before the
-- constraint looks: what stays is that their ids are known.
with lanes as (
    select id, customer, substr(lane, length(phone_id) + 2) as key
    from agentops.conversations where id = any(%(ids)s::bigint[]) order by id for update
), emptied as (
    update agentops.inbox i
    set conversation_id = null, payload = '{}', turn = null,
        state = case when i.state in ('queued', 'dead') then 'skipped' else i.state end,
        last_error = case when i.state in ('queued', 'dead') then 'forgotten' end,
        finished_at = coalesce(i.finished_at, now())
    from lanes where i.conversation_id = lanes.id
    returning i.id
), steps as (
    delete from agentops.turn_steps s using emptied where s.inbox_id = emptied.id
), people as (
    delete from agentops.customers p using lanes where lanes.customer in (p.phone, p.bsuid)
), costs as (
    delete from agentops.cost_days d using lanes where d.scope = 'customer:' || lanes.key
), gone as (
    delete from agentops.conversations c using lanes where c.id = lanes.id
    returning c.id
)
insert into agentops.audit (actor, action, subject)
select %(actor)s, 'conversation.forget', id::text from gone;
