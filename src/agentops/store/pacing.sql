-- Business numbers that may not send for now.

-- block --
-- The reply waits, uncounted. Refusals within one second are one: lanes that send side by side are refused together.
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
), blocked as (
    insert into agentops.pacing as p (phone_id, reason, code, until, generation)
    select held.phone_id, %(reason)s, %(code)s, now() + make_interval(secs => %(seconds)s::float8), %(generation)s
    from held
    on conflict (phone_id) do update
    set reason = excluded.reason, code = excluded.code, generation = greatest(p.generation, excluded.generation),
        refused_at = now(),
        since = case when p.reason = excluded.reason then p.since else now() end,
        strikes = case
            when p.reason <> excluded.reason then 1
            when p.refused_at < now() - interval '1 second' then least(p.strikes + 1, 10)
            else p.strikes end,
        until = case
            when excluded.reason <> 'rate' then excluded.until
            when p.reason <> 'rate' then excluded.until
            when p.refused_at < now() - interval '1 second'
            then now() + make_interval(secs => least(power(4, least(p.strikes + 1, 10)), %(longest)s::float8))
            else greatest(p.until, excluded.until) end
    returning extract(epoch from p.until - now())::float8 as seconds
)
select seconds from blocked;

-- lift --
-- The settings have changed since Meta refused: what waits for this number is due at once.
with lifted as (
    delete from agentops.pacing p using agentops.generation g
    where p.reason <> 'rate' and p.generation < g.n
    returning p.phone_id, p.reason
), due as (
    update agentops.conversations c set due_at = now()
    from lifted
    where c.phone_id = lifted.phone_id and c.due_at > now()
      and exists (select from agentops.outbox o where o.conversation_id = c.id and o.state = 'pending')
    returning c.id
)
select lifted.phone_id, lifted.reason,
       case when exists (select from due) then pg_notify(%(channel)s, '')::text end as woken
from lifted;

-- blocked --
select p.phone_id, p.reason, p.code, extract(epoch from now() - p.since)::float8 as seconds,
       (select count(*) from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
        where o.state = 'pending' and c.phone_id = p.phone_id) as waiting
from agentops.pacing p
where p.until > now() or p.reason <> 'rate'
order by p.since;
