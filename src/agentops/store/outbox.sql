-- Replies, at most one for a message.

-- put --
insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body, answers)
select %(conversation)s, %(inbox)s, %(correlation_id)s, %(body)s,
       array(select i.id from agentops.inbox i
             where i.conversation_id = %(conversation)s and i.state = 'queued' and %(inbox)s in (i.id, i.turn))
returning id;

-- sending --
-- Whether it may be sent now is asked and noted in one statement. `ahead` is how many seconds the customer's pace may run
-- ahead of the clock. A block that has ended (newer settings end it at once, except one that only time cures) lets one
-- probe through at a time: of lanes that ask at the same moment the number's row goes to one, and the others find it
-- blocked again. What has to wait is not counted as an attempt.
with held as (
    select id, phone_id, extract(epoch from next_send_at - now())::float8 as ahead from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), block as (
    select p.reason, case when p.until > now() and (p.reason = 'rate' or p.generation >= g.n)
                          then extract(epoch from p.until - now())::float8 end as seconds
    from agentops.pacing p join held on held.phone_id = p.phone_id cross join agentops.generation g
), wait as (
    select o.id, o.inbox_id, held.phone_id, agentops.flag_on(%(flag)s) as enabled, block.reason,
           greatest(held.ahead - %(ahead)s::float8, block.seconds, 0) as seconds
    from held
    join agentops.outbox o on o.id = %(id)s::uuid and o.conversation_id = held.id and o.state = 'pending'
    left join block on true
), probing as (
    update agentops.pacing p
    set until = now() + make_interval(secs => %(probe)s::float8), generation = (select n from agentops.generation)
    from wait
    where p.phone_id = wait.phone_id and wait.enabled and wait.seconds <= 0
      and (p.until <= now() or (p.reason <> 'rate' and p.generation < (select n from agentops.generation)))
    returning p.phone_id
), taken as (
    update agentops.outbox o
    set state = 'sending', error = null, code = null, tries = o.tries + 1, generation = %(generation)s
    from wait
    where o.id = wait.id and o.state = 'pending' and wait.enabled and wait.seconds <= 0
      and (not exists (select from block) or exists (select from probing))
    returning o.id
), paced as (
    update agentops.conversations c
    set next_send_at = greatest(coalesce(c.next_send_at, now()), now()) + make_interval(secs => %(interval)s::float8)
    from held, taken where c.id = held.id
), told as (
    select enabled, reason, inbox_id,
           case when seconds <= 0 and exists (select from block) and not exists (select from probing)
                then %(overtaken)s::float8 else seconds end as seconds
    from wait
), uncounted as (
    update agentops.inbox i set attempts = greatest(i.attempts - 1, 1)
    from told, held
    where i.conversation_id = held.id and told.inbox_id in (i.id, i.turn) and i.state = 'queued'
      and told.enabled and told.seconds > 0
)
select exists (select from held) as held, exists (select from taken) as taken, agentops.flag_on(%(flag)s) as enabled,
       coalesce((select seconds from told), 0) as seconds, (select reason from told) as reason;

-- back_off --
-- The wait is four times as long after every refusal in a row.
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), postponed as (
    update agentops.outbox o set state = 'pending', error = %(error)s, code = %(code)s
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id and o.state = 'sending'
    returning o.inbox_id
), uncounted as (
    update agentops.inbox i set attempts = greatest(i.attempts - 1, 1)
    from postponed, held
    where i.conversation_id = held.id and postponed.inbox_id in (i.id, i.turn) and i.state = 'queued'
), slowed as (
    update agentops.conversations c
    set send_strikes = least(c.send_strikes + 1, 20),
        next_send_at = now() + make_interval(
            secs => %(ahead)s::float8 + least(power(4, c.send_strikes), %(longest)s::float8))
    from held where c.id = held.id
    returning c.send_strikes
)
select exists (select from postponed) as postponed, send_strikes as strikes,
       least(power(4, send_strikes - 1), %(longest)s::float8)::float8 as seconds
from slowed;

-- settle --
-- `sending` as the state leaves the reply to its status webhook. A status that came before the answer is kept: also one
-- that failed and put the reply back, which then goes on waiting, and its messages with it. A success ends the block of
-- its number, unless the block is younger than this send, or came of a status.
with held as (
    select id, phone_id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), settled as (
    update agentops.outbox o
    set state = case
            when o.state = 'sending' then %(state)s
            when o.state = 'pending' and %(state)s = 'failed' then 'failed'
            when o.state = 'pending' and %(state)s = 'sent' and not coalesce(%(wamid)s = any(o.refused), false)
            then 'sent'
            when o.state = 'uncertain' and %(state)s = 'sent' then 'sent'
            else o.state end,
        wamid = case when %(wamid)s = any(o.refused) then o.wamid else coalesce(%(wamid)s, o.wamid) end,
        -- What a status said of this try, before its answer came, is the better word.
        error = case when o.state = 'failed' or %(wamid)s = any(o.refused) then o.error else %(error)s end,
        code = case when o.state = 'failed' or %(wamid)s = any(o.refused) then o.code else %(code)s end,
        sent_at = case when %(state)s = 'sent' and not coalesce(%(wamid)s = any(o.refused), false)
                       then coalesce(o.sent_at, now()) else o.sent_at end
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id
    returning o.id, o.inbox_id, o.state, o.sending_since
), finished as (
    update agentops.inbox i set state = %(outcome)s, last_error = %(error)s, finished_at = now()
    from settled, held
    where i.conversation_id = held.id and settled.inbox_id in (i.id, i.turn) and i.state = 'queued'
      and settled.state <> 'pending'
), calmed as (
    update agentops.conversations c set send_strikes = 0 from held where c.id = held.id and c.send_strikes > 0
), unblocked as (
    delete from agentops.pacing p using held, settled
    where p.phone_id = held.phone_id and %(state)s = 'sent' and settled.state = 'sent' and not p.late
      and p.refused_at < settled.sending_since
    returning p.phone_id
)
select id, exists (select from unblocked) as unblocked from settled;

-- statuses --
-- What arrived: Meta's order is no order, so the highest rank wins. `sent` says nothing of a try that failed. Rows are
-- locked in one order, so that two deliveries never wait for each other.
with heard as materialized (
    select distinct on (reply.id) reply.id, s.state, s.wamid, s.rank
    from (
        select m.*, case m.state when 'sent' then 1 when 'delivered' then 3 else 4 end as rank
        from jsonb_to_recordset(%(statuses)s::jsonb) as m (wamid text, state text, id uuid)
    ) s
    join agentops.outbox reply on reply.wamid = s.wamid or reply.id = s.id
    where s.rank > 1 or not s.wamid = any(reply.refused)
    order by reply.id, s.rank desc
), mine as materialized (
    select o.id, o.conversation_id, o.sending_since from agentops.outbox o
    where o.id in (select id from heard)
    order by o.id
    for update
), changed as (
    update agentops.outbox o
    set state = heard.state, wamid = coalesce(o.wamid, heard.wamid), error = null, code = null,
        sent_at = coalesce(o.sent_at, now())
    from heard join mine on mine.id = heard.id
    where o.id = heard.id
      and heard.rank > case o.state when 'read' then 4 when 'delivered' then 3 when 'sent' then 1 else 0 end
      and (heard.rank > 1 or not (
          heard.wamid = any(o.refused) or (o.state = 'failed' and coalesce(o.wamid = heard.wamid, false))))
    returning o.id
)
select mine.id::text as id, changed.id is not null as changed,
       exists (select from agentops.pacing p join agentops.conversations c on c.phone_id = p.phone_id
               where c.id = mine.conversation_id and p.refused_at < mine.sending_since) as proves
from mine left join changed on changed.id = mine.id;

-- report --
-- Replies of which nobody knows whether they arrived: into the one open incident, with an audit row each.
with overdue as (
    select id from agentops.outbox
    where state = 'sending' and sending_since < now() - make_interval(secs => %(seconds)s::float8)
    order by sending_since
    limit 500
    for update skip locked
), unreported as (
    select id from agentops.outbox
    where state = 'uncertain' and reported_at is null
    limit 500
    for update skip locked
), turned as (
    update agentops.outbox o set state = 'uncertain', reported_at = now(), error = coalesce(o.error, %(error)s)
    from (select id from overdue union all select id from unreported) found
    where o.id = found.id
    returning o.id, o.correlation_id
), incident as (
    insert into agentops.incidents as i (kind, reason, detail, opened_by)
    select 'uncertain-reply', %(reason)s, jsonb_build_object('outbox', jsonb_agg(turned.id)), %(actor)s
    from turned having count(*) > 0
    on conflict (kind) where kind = 'uncertain-reply' and status = 'open'
    do update set detail = jsonb_set(i.detail, '{outbox}', (i.detail -> 'outbox') || (excluded.detail -> 'outbox'))
    returning i.id
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'reply.uncertain', turned.id::text, jsonb_build_object('incident', incident.id)
    from turned, incident
)
select turned.id::text as outbox, turned.correlation_id, incident.id as incident from turned, incident;

-- tidy --
-- What is known by now leaves the incident; the last one closes it. A reply that another statement is reporting at this
-- moment still looks like `sending` here, and stays.
with open as (
    select i.id, i.detail from agentops.incidents i
    where i.kind = 'uncertain-reply' and i.status = 'open'
    for update
), entries as (
    select open.id as incident, entry.id, o.state
    from open
    cross join jsonb_array_elements_text(open.detail -> 'outbox') as entry (id)
    left join agentops.outbox o on o.id = entry.id::uuid
), settled as (
    select incident, id, coalesce(state, 'forgotten') as state from entries
    where state is null or state not in ('uncertain', 'sending')
), remaining as (
    select incident, coalesce(jsonb_agg(id) filter (where state in ('uncertain', 'sending')), '[]') as ids
    from entries group by incident
), shortened as (
    update agentops.incidents i
    set detail = i.detail || jsonb_build_object(
            'outbox', remaining.ids,
            'settled', coalesce(i.detail -> 'settled', '[]') || (select jsonb_agg(id) from settled)),
        status = case when remaining.ids = '[]' then 'closed' else 'open' end
    from remaining where i.id = remaining.incident and exists (select from settled)
)
insert into agentops.audit (actor, action, subject, detail)
select %(actor)s, 'reply.settled', id, jsonb_build_object('incident', incident, 'state', state)
from settled
returning subject as outbox, detail ->> 'state' as state, (detail ->> 'incident')::bigint as incident;

-- failures --
-- By Meta's code; an operator's word and a flag that was off have none. The index finds what is young.
select o.code, count(*) as replies from agentops.outbox o
where o.state = 'failed' and o.code is not null and o.created_at > now() - interval '8 days'
  and o.sending_since > now() - make_interval(secs => %(seconds)s::float8)
group by o.code order by 2 desc, 1;

-- listed --
select o.id::text, o.state, c.customer, o.correlation_id, char_length(o.body) as characters, o.code, o.error,
       o.created_at, o.sending_since, o.sent_at
from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
where %(state)s::text is null or o.state = %(state)s
order by o.created_at desc, o.id
limit %(limit)s;

-- one --
select o.id::text, o.state, c.customer, o.correlation_id, char_length(o.body) as characters, o.code, o.error,
       o.created_at, o.sending_since, o.sent_at
from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
where o.id = %(id)s::uuid;

-- reveal --
-- Nobody reads a customer's text without a trace.
with shown as (
    select o.id, o.body from agentops.outbox o where o.id = %(id)s::uuid
), audited as (
    insert into agentops.audit (actor, action, subject)
    select %(actor)s, 'outbox.reveal', id::text from shown
)
select body from shown;

-- resolve --
-- Sent again means: all messages of its turn wait in the queue again, and the worker finds the one reply as decided.
with lane as (
    select c.id from agentops.conversations c join agentops.outbox o on o.conversation_id = c.id
    where o.id = %(id)s::uuid
    for update of c
), before as (
    select o.id, o.state, o.inbox_id, o.conversation_id,
           case when o.answers = '{}' then array[o.inbox_id] else o.answers end as messages
    from agentops.outbox o join lane on lane.id = o.conversation_id
    where o.id = %(id)s::uuid and o.state = any(%(from)s::text[])
      and (%(to)s <> 'pending' or o.inbox_id is not null)
    for update of o
), resolved as (
    update agentops.outbox o
    set state = %(to)s, error = case when %(to)s = 'failed' then 'resolved as failed by the operator' end,
        reported_at = case when %(to)s = 'pending' then null else o.reported_at end,
        resend_at = case when %(to)s = 'pending' then now() else o.resend_at end,
        -- What Meta still tells of the tries before is not of this one.
        refused = case when %(to)s = 'pending' and o.wamid is not null then o.refused || o.wamid else o.refused end,
        wamid = case when %(to)s = 'pending' then null else o.wamid end,
        sent_at = case when %(to)s = 'sent' then coalesce(o.sent_at, o.sending_since, now()) else o.sent_at end
    from before where o.id = before.id
    returning o.id
), queued as (
    update agentops.inbox i set state = 'queued', attempts = 1, last_error = null, finished_at = null
    from before where i.id = any(before.messages) and %(to)s = 'pending' and i.state <> 'queued'
), due as (
    update agentops.conversations c set due_at = least(c.due_at, now())
    from before where c.id = before.conversation_id and %(to)s = 'pending'
    returning pg_notify(%(channel)s, '')::text
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'outbox.resolve', before.id::text,
           jsonb_build_object('from', before.state, 'to', %(to)s::text, 'incident', (
               select i.id from agentops.incidents i where i.kind = 'uncertain-reply' and i.status = 'open'
               and i.detail -> 'outbox' ? before.id::text))
    from before
)
select resolved.id::text as id, (select count(*) from due) as woken from resolved;
