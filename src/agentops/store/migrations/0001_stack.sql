-- The stack's own schema, and the two public tables that an existing stack already has.
-- Forward only. Rules live in constraints, each with its reason.

create schema if not exists agentops;

-- Public tables: created only where missing, in the shape that existing stacks have. Which ones are missing is noted.
select set_config('agentops.made', coalesce(string_agg(w.name, ' '), ''), true)
from (values ('public.profiles'), ('public.vouchers')) w (name) where to_regclass(w.name) is null;
create table if not exists public.profiles (
    user_id uuid primary key default gen_random_uuid(),
    whatsapp_e164 text,
    display_name text,
    created_at timestamptz not null default now()
);
create table if not exists public.vouchers (
    id uuid primary key default gen_random_uuid(),
    code_5 text not null check (code_5 ~ '^[0-9]{5}$'),
    amount_minor integer not null check (amount_minor > 0),
    currency text not null default 'RWF',
    -- 'void' is what the void tool writes; some deployed stacks allow 'cancelled' here and refuse 'void'.
    status text not null default 'issued'
        constraint vouchers_status_check check (status in ('issued', 'redeemed', 'expired', 'void')),
    user_id uuid references public.profiles (user_id),
    whatsapp_e164 text not null,
    policy_number text not null,
    plate text,
    qr_payload text,
    image_url text,
    issued_by_admin text,
    issued_at timestamptz not null default now(),
    redeemed_at timestamptz,
    redeemed_by_station_id uuid,
    notes text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
-- A Supabase project's web visitors are granted every new table in public: not these. Those that were there stay as they
-- are.
do $$
declare
    made text;
    visitor text;
begin
    for made, visitor in
        select m.name, r.rolname from unnest(string_to_array(current_setting('agentops.made'), ' ')) m (name)
        cross join pg_roles r where r.rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on table %s from %I', made, visitor);
    end loop;
end $$;
-- A live code names one voucher; a void or expired one frees its code.
create unique index if not exists vouchers_live_code_5
    on public.vouchers (code_5) where status in ('issued', 'redeemed');
create index if not exists vouchers_whatsapp_e164 on public.vouchers (whatsapp_e164);
create index if not exists vouchers_created_at on public.vouchers (created_at);
create index if not exists profiles_whatsapp_e164 on public.profiles (whatsapp_e164);

-- One row: what this database is, and the public half of the key that its secrets are sealed to.
create table agentops.stack (
    only_row boolean primary key default true check (only_row),
    kind text not null check (kind in ('live', 'sandbox')),
    public_key text not null,
    created_at timestamptz not null default now()
);

-- Counts every change of flags, secrets and deployments. Servers report the generation they have applied.
-- The row lock makes changes of settings take turns, so that a generation once seen holds all earlier ones.
create table agentops.generation (
    only_row boolean primary key default true check (only_row),
    n bigint not null default 0
);
insert into agentops.generation default values;

create function agentops.bump_generation() returns trigger language plpgsql as $$
begin
    update agentops.generation set n = n + 1;
    perform pg_notify('agentops_settings', '');
    return null;
end $$;

-- Flags are settings that are no secret: in clear, so that a money statement can check them.
create table agentops.flags (
    name text primary key check (name ~ '^FEATURE_AGENT_[A-Z0-9_]+$'),
    enabled boolean not null,
    -- `enabled` holds until then by this database's clock; after it, `reverts_to` does. No process has to be alive.
    until timestamptz,
    reverts_to boolean,
    version integer not null default 1,
    updated_by text not null,
    updated_at timestamptz not null default now(),
    -- When it last went off, kept by a trigger: what waited then is not done after it was switched on again.
    off_at timestamptz,
    check ((until is null) = (reverts_to is null))
);
create trigger flags_generation after insert or update or delete on agentops.flags
    for each statement execute function agentops.bump_generation();

create function agentops.flag_state(f agentops.flags) returns boolean language sql stable as $$
    select case when f.until is null or now() < f.until then f.enabled else f.reverts_to end
$$;
create function agentops.flag_on(flag_name text) returns boolean language sql stable as $$
    select coalesce((select agentops.flag_state(f) from agentops.flags f where f.name = flag_name), false)
$$;
-- Whether money may move on this way in: vouchers must be on, and the channel's own flag where it has one.
create function agentops.vouchers_on(channel text) returns boolean language sql stable as $$
    select agentops.flag_on('FEATURE_AGENT_VOUCHERS') and case channel
        when 'http' then true
        when 'chat' then agentops.flag_on('FEATURE_AGENT_CHAT')
        when 'voice' then agentops.flag_on('FEATURE_AGENT_VOICE')
        else false
    end
$$;

-- The last moment at which the flag was off: infinity while it is.
create function agentops.flag_last_off(flag_name text) returns timestamptz language sql stable as $$
    select coalesce(
        (select case when not agentops.flag_state(f) then 'infinity'
                     when f.until <= now() and not f.enabled then f.until
                     else coalesce(f.off_at, '-infinity') end
         from agentops.flags f where f.name = flag_name),
        'infinity')
$$;
create function agentops.note_flag_off() returns trigger language plpgsql as $$
begin
    new.off_at := case
        when not new.enabled then now()
        when tg_op = 'INSERT' or not agentops.flag_state(old) then now()
        when old.until <= now() and not old.enabled then old.until
        else old.off_at
    end;
    return new;
end $$;
create trigger flags_off before insert or update on agentops.flags
    for each row execute function agentops.note_flag_off();

create table agentops.secrets (
    name text primary key check (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and name !~ '^FEATURE_AGENT_'),
    sealed bytea not null,
    digest text not null check (digest ~ '^[0-9a-f]{64}$'),
    version integer not null,
    updated_by text not null,
    updated_at timestamptz not null default now()
);
-- Counts the changes of each name, and outlives its secret: a version that a value was sealed for never comes again, so
-- that an older sealed value, put back, does not open.
create table agentops.secret_versions (
    name text primary key,
    n integer not null
);
create trigger secrets_generation after insert or update or delete on agentops.secrets
    for each statement execute function agentops.bump_generation();

-- Every version of every function's source stays, so that it can be compared with and gone back to.
create table agentops.versions (
    slug text not null check (slug ~ '^[a-z][a-z0-9-]*$'),
    version integer not null,
    sha256 text not null,
    entrypoint text not null,
    files jsonb not null,
    origin text not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (slug, version)
);
create table agentops.deployments (
    slug text primary key,
    version integer not null,
    -- Counts forced reloads of the same version: a higher number makes servers load the module afresh.
    reload integer not null default 0,
    deployed_by text not null,
    deployed_at timestamptz not null default now(),
    foreign key (slug, version) references agentops.versions (slug, version)
);
create trigger deployments_generation after insert or update or delete on agentops.deployments
    for each statement execute function agentops.bump_generation();

-- Heartbeat of each server process; `functions` is {slug: {version, reload, ok, error}} as loaded there.
create table agentops.servers (
    id uuid primary key,
    host text not null,
    pid integer not null,
    role text not null check (role in ('web', 'worker')),
    url text,
    generation bigint not null default 0,
    functions jsonb not null default '{}',
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now()
);

create table agentops.logs (
    id bigint generated always as identity primary key,
    -- The writing transaction: a reader's cursor is a snapshot, so rows that commit late are never skipped.
    xid xid8 not null default pg_current_xact_id(),
    at timestamptz not null,
    level text not null,
    event text not null,
    correlation_id text not null,
    function text not null,
    data jsonb not null default '{}'
);
create index logs_at on agentops.logs (at);
create index logs_xid on agentops.logs (xid);
create index logs_correlation_id on agentops.logs (correlation_id, at);

-- Money: what happened to each voucher, once.
create table agentops.ledger (
    id bigint generated always as identity primary key,
    voucher_id uuid not null,
    kind text not null check (kind in ('issue', 'redeem', 'void')),
    amount_minor bigint not null,
    currency text not null,
    channel text not null check (channel in ('http', 'chat', 'voice')),
    actor text not null,
    correlation_id text not null,
    at timestamptz not null default now()
);
create unique index ledger_one_issue on agentops.ledger (voucher_id) where kind = 'issue';
-- A voucher ends once: redeemed or void, never both, never twice.
create unique index ledger_one_end on agentops.ledger (voucher_id) where kind in ('redeem', 'void');

-- A key names one request; it is claimed in the transaction of its effect.
create table agentops.idempotency (
    scope text not null,
    key text not null,
    fingerprint text not null,
    status integer not null,
    -- json, not jsonb: a repeated request gets the first answer with its fields in their order.
    body json not null,
    created_at timestamptz not null default now(),
    primary key (scope, key)
);
-- For the retention, which deletes the oldest.
create index idempotency_created_at on agentops.idempotency (created_at);

create table agentops.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null default '{}'
);

create table agentops.incidents (
    id bigint generated always as identity primary key,
    kind text not null,
    status text not null default 'open' check (status in ('open', 'restored', 'closed')),
    reason text not null default '',
    features text[] not null default '{}',
    -- The flags that this incident switched off (they were on before): what `restore` puts back.
    switched_off text[] not null default '{}',
    detail jsonb not null default '{}',
    opened_by text not null,
    opened_at timestamptz not null default now(),
    restored_by text,
    restored_at timestamptz
);
-- Pressing the kill switch again finds the incident that is open.
create unique index incidents_one_open_kill_switch on agentops.incidents (kind) where kind = 'kill-switch' and status = 'open';

-- A conversation is one customer on one business number; a worker leases it whole, so its messages keep their order.
create table agentops.conversations (
    id bigint generated always as identity primary key,
    lane text not null unique,
    phone_id text not null,
    customer text not null,
    lease_owner uuid,
    lease_until timestamptz,
    -- Counts leases; every write of a worker names the fence it holds, so that a stopped worker can write nothing later.
    fence bigint not null default 0,
    -- When a worker may next take it; null where nothing waits. A claim empties it, a message that arrives meanwhile
    -- fills it again, so a message is never overlooked; a failed attempt moves it, and with it all that wait behind.
    due_at timestamptz,
    created_at timestamptz not null default now(),
    check ((lease_owner is null) = (lease_until is null))
);
-- A claim reads these two and nothing else, however long the queue behind one customer is.
create index conversations_due on agentops.conversations (due_at) where lease_until is null and due_at is not null;
create index conversations_leased on agentops.conversations (lease_until) where lease_until is not null;
create table agentops.history (
    id bigint generated always as identity primary key,
    conversation_id bigint not null references agentops.conversations (id) on delete cascade,
    item jsonb not null,
    created_at timestamptz not null default now()
);
create index history_conversation on agentops.history (conversation_id, id);

-- One row per message received, unique by the sender's id: dedupe, durability and order are the same row.
create table agentops.inbox (
    id bigint generated always as identity primary key,
    message_id text not null unique,
    conversation_id bigint references agentops.conversations (id) on delete cascade,
    slug text not null,
    correlation_id text not null,
    kind text not null,
    payload jsonb not null,
    state text not null default 'queued' check (state in ('queued', 'done', 'skipped', 'dead')),
    -- Counts turns begun, not turns failed: a message that kills its worker is counted too.
    attempts integer not null default 0,
    last_error text,
    received_at timestamptz not null default now(),
    finished_at timestamptz,
    -- Without a conversation nobody would ever take it from the queue.
    check (state <> 'queued' or conversation_id is not null),
    check ((state = 'queued') = (finished_at is null))
);
create index inbox_queued on agentops.inbox (conversation_id, id) where state = 'queued';
create index inbox_correlation_id on agentops.inbox (correlation_id);

-- A reply is written down before it is sent. `sending` that outlives its worker is `uncertain`: it may have arrived,
-- and Meta has no way to send it again without the risk of saying it twice.
create table agentops.outbox (
    id uuid primary key default gen_random_uuid(),
    conversation_id bigint not null references agentops.conversations (id) on delete cascade,
    inbox_id bigint references agentops.inbox (id) on delete set null,
    correlation_id text not null,
    body text not null,
    state text not null default 'pending'
        check (state in ('pending', 'sending', 'sent', 'delivered', 'read', 'uncertain', 'failed')),
    wamid text,
    error text,
    created_at timestamptz not null default now(),
    sent_at timestamptz
);
-- One reply for one message, whatever happens to the worker in between.
create unique index outbox_one_reply on agentops.outbox (inbox_id) where inbox_id is not null;
create index outbox_conversation on agentops.outbox (conversation_id, created_at);
create index outbox_wamid on agentops.outbox (wamid) where wamid is not null;
