-- Sending: what waits for a status webhook and since when, what an incident has taken in, and how fast we may send.

alter table agentops.outbox
    add column sending_since timestamptz,
    -- When an incident took it in; a reply that is `uncertain` without it is taken in next.
    add column reported_at timestamptz,
    -- When an operator had it sent again: that word is younger than a flag that was off when the message came.
    add column resend_at timestamptz,
    -- Meta's error code, of a refusal or of a failed status.
    add column code integer,
    -- How often it went `sending`, and with which settings last: newer ones may have cured what Meta refused.
    add column tries integer not null default 0,
    add column generation bigint not null default 0,
    -- All messages of the turn that it answers; `inbox_id` is only the last of them.
    add column answers bigint[] not null default '{}',
    -- Meta's ids of the tries that failed after they were accepted: such a status, told again, is not of a later try.
    add column refused text[] not null default '{}';

-- A trigger, so that the servers of an older version, which know nothing of the column, keep it too.
create function agentops.note_sending_since() returns trigger language plpgsql as $$
begin
    new.sending_since := clock_timestamp();
    return new;
end $$;
create trigger outbox_sending_since before update on agentops.outbox
    for each row when (new.state = 'sending' and old.state <> 'sending') execute function agentops.note_sending_since();
update agentops.outbox set sending_since = created_at where state = 'sending';

create index outbox_waiting on agentops.outbox (sending_since) where state = 'sending';
create index outbox_uncertain on agentops.outbox (reported_at) where state = 'uncertain';
create index outbox_listed on agentops.outbox (created_at desc, id);

-- One customer's pace. `next_send_at` runs ahead of the clock by one interval per reply; how far it may is the burst.
alter table agentops.conversations
    add column next_send_at timestamptz,
    -- Sends in a row that Meta refused for now; the wait grows with it.
    add column send_strikes integer not null default 0;

-- A business number that may not send: until a time (rate), or until the settings change or the next probe.
create table agentops.pacing (
    phone_id text primary key,
    reason text not null check (reason in ('rate', 'token', 'policy')),
    code integer,
    until timestamptz not null,
    -- The settings with which Meta refused; newer ones are tried at once, where waiting is no cure.
    generation bigint not null,
    strikes integer not null default 1,
    -- Refused by a status webhook, after it was accepted: then being accepted proves nothing, only another status does.
    late boolean not null default false,
    since timestamptz not null default now(),
    refused_at timestamptz not null default now()
);

-- Blocks a number, or goes on blocking it; the seconds until it may be tried again. Refusals within one second are one:
-- lanes that send side by side are refused together. What time cures (rate) is waited for four times as long each time.
create function agentops.block_number(
    number text, new_reason text, new_code integer, seconds float8, longest float8, settings bigint, told_late boolean
) returns float8 language sql as $$
    insert into agentops.pacing as p (phone_id, reason, code, until, generation, late)
    values (number, new_reason, new_code, now() + make_interval(secs => seconds), settings, told_late)
    on conflict (phone_id) do update
    set reason = excluded.reason, code = excluded.code, generation = greatest(p.generation, excluded.generation),
        late = excluded.late, refused_at = now(),
        since = case when p.reason = excluded.reason then p.since else now() end,
        strikes = case
            when p.reason <> excluded.reason then 1
            when p.refused_at < now() - interval '1 second' then least(p.strikes + 1, 10)
            else p.strikes end,
        until = case
            when excluded.reason <> 'rate' then excluded.until
            when p.reason <> 'rate' then excluded.until
            when p.refused_at < now() - interval '1 second'
            then now() + make_interval(secs => least(power(4, least(p.strikes + 1, 10)), longest))
            else greatest(p.until, excluded.until) end
    returning extract(epoch from p.until - now())::float8
$$;

-- One open incident collects all replies of which nobody knows whether they arrived.
create unique index incidents_one_open_uncertain on agentops.incidents (kind)
    where kind = 'uncertain-reply' and status = 'open';
