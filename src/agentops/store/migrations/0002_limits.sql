-- Who may do what: limits of vouchers, requests that wait for approval, and row-level security as the second wall.
-- An older server goes on working: what it does not know of binds only who takes the role agentops_agent.

-- Limits that an operator has set; for others the program's own defaults hold (store/limits.py). Null: no limit.
create table agentops.limits (
    name text primary key check (name ~ '^[a-z][a-z0-9-]*$'),
    value bigint,
    updated_by text not null,
    updated_at timestamptz not null default now()
);

-- What was issued on one day, to one customer ('customer:+250…') or to all ('all'). A row is raised in the transaction
-- of the voucher that it counts, so that a rollback gives back what was reserved.
create table agentops.usage_days (
    scope text not null,
    day date not null,
    count integer not null check (count > 0),
    -- Minor units.
    amount bigint not null check (amount > 0),
    primary key (scope, day)
);

-- Vouchers that somebody has to approve before they exist.
create table agentops.approvals (
    id bigint generated always as identity primary key,
    status text not null default 'pending' check (status in ('pending', 'approved', 'rejected')),
    customer text not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    channel text not null,
    correlation_id text not null,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    decided_by text,
    decided_at timestamptz,
    reason text,
    voucher_id uuid,
    -- Whether the customer is told of the decision: by a reply in the outbox, or why not.
    told text check (told in ('queued', 'window_closed', 'chat_off', 'no_conversation')),
    check ((status = 'pending') = (decided_at is null) and (decided_at is null) = (decided_by is null)),
    check ((status = 'approved') = (voucher_id is not null)),
    -- Four eyes: nobody approves what they asked for themselves.
    check (status <> 'approved' or decided_by <> requested_by)
);
-- One request of a customer waits at a time: asking again and again fills no list.
create unique index approvals_one_pending on agentops.approvals (customer) where status = 'pending';
create index approvals_requested_at on agentops.approvals (requested_at);

-- Who acts under row-level security sees only their own vouchers; which codes are taken they must know all the same.
create function agentops.code_taken(code text) returns boolean
language sql stable security definer set search_path = pg_catalog as $$
    select exists (select from public.vouchers v where v.code_5 = $1 and v.status in ('issued', 'redeemed'))
$$;
create function agentops.free_codes(wanted integer) returns setof text
language sql volatile security definer set search_path = pg_catalog as $$
    select lpad(n::text, 5, '0')
    from generate_series(0, 99999) as n
    where lpad(n::text, 5, '0') not in (select v.code_5 from public.vouchers v where v.status in ('issued', 'redeemed'))
    order by random()
    limit $1
$$;

-- What each row must say for a customer to see or write it: whose it is (agentops.principal: their verified phone), or
-- who did it (agentops.actor). Both are set for one transaction; unset, nothing is theirs.
create function agentops.wall_rules() returns table (name text, rule text) language sql immutable as $$
    values ('public.vouchers', 'whatsapp_e164 = current_setting(''agentops.principal'', true)'),
           ('public.profiles', 'whatsapp_e164 = current_setting(''agentops.principal'', true)'),
           ('agentops.approvals', 'customer = current_setting(''agentops.principal'', true)'),
           ('agentops.usage_days', 'scope in (''all'', ''customer:'' || current_setting(''agentops.principal'', true))'),
           ('agentops.idempotency',
            'right(scope, length(current_setting(''agentops.principal'', true)) + 1) = '':'' || current_setting(''agentops.principal'', true)'),
           ('agentops.ledger', 'actor = current_setting(''agentops.actor'', true)'),
           ('agentops.audit', 'actor = current_setting(''agentops.actor'', true)')
$$;

-- Why a customer's tools would run without the second wall; null where it stands and this user may go behind it.
create function agentops.wall_missing() returns text language sql stable as $$
    select case
        when r.oid is null then 'the role agentops_agent does not exist'
        -- Since PostgreSQL 16 a member may lack the right to become the role.
        when not pg_has_role(r.oid, case when current_setting('server_version_num')::int >= 160000
                                         then 'SET' else 'MEMBER' end)
            then 'the database user ' || current_user || ' may not act as agentops_agent'
        when exists (select from agentops.wall_rules() w join pg_class c on c.oid = to_regclass(w.name)
                     where not c.relrowsecurity
                        or not exists (select from pg_policy p
                                       where p.polrelid = c.oid and p.polname = 'agentops_only_own'))
            then 'row-level security does not stand on every table'
        when not has_table_privilege(r.oid, 'public.vouchers', 'insert')
            then 'agentops_agent may not write vouchers'
    end
    from (select) as always left join pg_roles r on r.rolname = 'agentops_agent'
$$;

-- Builds the wall, or says why it cannot: whole or not at all, again is no harm. Owners and superusers are not bound
-- (no FORCE), and other roles keep what they could do.
create function agentops.build_wall() returns text language plpgsql as $$
declare
    entry record;
begin
    if agentops.wall_missing() is null then
        return null;
    end if;
    begin
        if not exists (select from pg_roles where rolname = 'agentops_agent') then
            begin
                create role agentops_agent nologin;
            exception when duplicate_object or unique_violation then
                null; -- another database of this cluster has just made it
            end;
        end if;
        if not pg_has_role('agentops_agent', case when current_setting('server_version_num')::int >= 160000
                                                  then 'SET' else 'MEMBER' end) then
            execute format('grant agentops_agent to %I', current_user);
        end if;
        for entry in select w.name, w.rule, c.relrowsecurity as guarded
                     from agentops.wall_rules() w join pg_class c on c.oid = to_regclass(w.name)
        loop
            if not entry.guarded then
                -- Where nothing was guarded, grants decided alone; for everybody else they still do.
                execute format('drop policy if exists agentops_as_before on %s', entry.name);
                execute format('create policy agentops_as_before on %s using (true) with check (true)', entry.name);
                execute format('alter table %s enable row level security', entry.name);
            end if;
            execute format('drop policy if exists agentops_own on %s', entry.name);
            execute format('create policy agentops_own on %s to agentops_agent using (%s) with check (%s)',
                           entry.name, entry.rule, entry.rule);
            -- Restrictive: no other policy, however wide, opens what this one closes. A member of the role that has
            -- not become it is not bound.
            execute format('drop policy if exists agentops_only_own on %s', entry.name);
            execute format('create policy agentops_only_own on %s as restrictive to agentops_agent '
                           'using (current_user <> ''agentops_agent'' or %s) '
                           'with check (current_user <> ''agentops_agent'' or %s)', entry.name, entry.rule, entry.rule);
        end loop;
        grant usage on schema public, agentops to agentops_agent;
        grant select, insert on public.vouchers to agentops_agent;
        for entry in select column_name from information_schema.columns
                     where table_schema = 'public' and table_name = 'vouchers'
                       and column_name in ('status', 'redeemed_at', 'notes', 'updated_at')
        loop
            execute format('grant update (%I) on public.vouchers to agentops_agent', entry.column_name);
        end loop;
        grant select on public.profiles, agentops.flags, agentops.limits to agentops_agent;
        grant insert on agentops.ledger, agentops.audit to agentops_agent;
        grant select, insert on agentops.approvals to agentops_agent;
        grant select, insert, update on agentops.idempotency, agentops.usage_days to agentops_agent;
    exception when insufficient_privilege then
        return 'this database user may not build it: ' || sqlerrm;
    end;
    return agentops.wall_missing();
end $$;

do $$
declare
    missing text := agentops.build_wall();
begin
    if missing is not null then
        raise notice 'agentops: the second wall is missing: %', missing;
    end if;
end $$;
