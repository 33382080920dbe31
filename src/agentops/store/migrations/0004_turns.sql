-- Turns: several messages answered as one, steps of the model kept until the turn is settled, and how much one customer
-- may ask for. Only additions: a web server of the version before goes on working beside it; its workers, which know no
-- turns, should be stopped first.

-- When the newest of what waits came: while a customer is still typing, a claim leaves them alone. An older server
-- leaves it empty, and then nothing is waited for.
alter table agentops.conversations add column newest_at timestamptz;

-- How much a customer asked for in the window that began then: 20 messages in ten minutes, 10 tool calls in a minute.
-- `…_told` is the message whose answer said so: one a window, also when its worker dies in between.
alter table agentops.conversations
    add column messages_since timestamptz,
    add column messages_count integer not null default 0,
    add column messages_told bigint,
    add column tools_since timestamptz,
    add column tools_count integer not null default 0,
    add column tools_told bigint;

-- The last message of the turn that this message is answered in, from the turn's begin on: what was begun as one turn
-- stays one, whatever comes in while it is tried again.
alter table agentops.inbox add column turn bigint;
-- What the version before has begun, it began message by message: its reply and its effects bear that one's name.
update agentops.inbox set turn = id where state in ('queued', 'dead') and attempts > 0;
create index inbox_dead on agentops.inbox (id) where state = 'dead';

-- What the model answered, before anything is done about it: a turn that is taken up again asks for none of it twice.
-- Deleted with the commit that puts the turn into the history.
create table agentops.turn_steps (
    inbox_id bigint not null references agentops.inbox (id) on delete cascade,
    ordinal integer not null check (ordinal >= 0),
    items jsonb not null,
    text text not null,
    usage jsonb not null,
    model text not null,
    -- How many of the step's tool calls the customer's rate allows.
    allowed integer not null check (allowed >= 0),
    created_at timestamptz not null default now(),
    primary key (inbox_id, ordinal)
);

-- Messages that were given up are collected in one open incident; each leaves its line in the timeline. A trigger, so
-- that no way to end a message can forget it.
create unique index incidents_one_open_dead_letter on agentops.incidents (kind) where kind = 'dead-letter' and status = 'open';

create function agentops.note_dead_letter() returns trigger language plpgsql as $$
declare
    incident bigint;
begin
    insert into agentops.incidents as i (kind, reason, opened_by, detail)
    values ('dead-letter', 'messages were given up: agentops inbox list --state dead', 'agentops', '{"messages": 1}')
    on conflict (kind) where kind = 'dead-letter' and status = 'open'
    do update set detail = jsonb_set(i.detail, '{messages}', to_jsonb(coalesce((i.detail ->> 'messages')::integer, 0) + 1))
    returning id into incident;
    insert into agentops.audit (actor, action, subject, detail)
    values ('agentops', 'incident.dead-letter', incident::text,
            jsonb_build_object('message', new.id, 'error', new.last_error));
    return null;
end $$;
create trigger inbox_dead_letter after update of state on agentops.inbox
    for each row when (new.state = 'dead' and old.state <> 'dead')
    execute function agentops.note_dead_letter();
