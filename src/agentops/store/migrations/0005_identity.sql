-- Customers by whatever Meta tells of them: a user id (BSUID), a phone, or both. A conversation stays one lane.

create table agentops.customers (
    id bigint generated always as identity primary key,
    -- A phone may be given to somebody else and a user id may be renewed: each belongs to one customer at a time.
    bsuid text unique,
    phone text unique check (phone ~ '^[+][1-9][0-9]{6,14}$'),
    -- What the lanes are named by: the first identity that was seen. It never changes, whatever becomes known later.
    key text not null unique,
    -- The keys of customers who turned out to be this one, as long as their conversations have not been moved.
    formerly text[] not null default '{}',
    created_at timestamptz not null default now(),
    check (bsuid is not null or phone is not null)
);
insert into agentops.customers (bsuid, phone, key)
select case when customer !~ '^[+]' then customer end, case when customer ~ '^[+]' then customer end, customer
from agentops.conversations where customer ~ '^[+][1-9][0-9]{6,14}$' or customer ~ '^[^+]'
group by customer
on conflict do nothing;

-- Gives a customer a user id and a phone (null: leaves it as it is). Who has them so far is the same person where
-- nothing speaks against it, and is absorbed; another person, who has a user id of their own, loses the phone.
-- The caller holds the advisory lock.
create function agentops.identify_customer(keep bigint, new_bsuid text, new_phone text)
returns agentops.customers language plpgsql as $$
declare
    other agentops.customers;
    kept agentops.customers;
    their_phone text;
    their_keys text[] := '{}';
begin
    for other in select * from agentops.customers c where c.id <> keep and (c.bsuid = new_bsuid or c.phone = new_phone) loop
        if other.bsuid is null or other.bsuid = new_bsuid then
            delete from agentops.customers where id = other.id;
            their_phone := coalesce(their_phone, other.phone);
            their_keys := their_keys || other.key || other.formerly;
        else
            update agentops.customers set phone = null where id = other.id;
        end if;
    end loop;
    update agentops.customers c
    set bsuid = coalesce(new_bsuid, c.bsuid), phone = coalesce(new_phone, their_phone, c.phone),
        formerly = c.formerly || their_keys
    where c.id = keep
    returning * into kept;
    return kept;
end $$;

-- The customer of a message: by user id first, then by phone; made where neither is known.
create function agentops.customer(their_bsuid text, their_phone text)
returns agentops.customers language plpgsql as $$
declare
    by_bsuid agentops.customers;
    by_phone agentops.customers;
    found_one agentops.customers;
    new_key text := coalesce(their_phone, their_bsuid);
begin
    for attempt in 1..2 loop
        select * into by_bsuid from agentops.customers c where c.bsuid = their_bsuid;
        if by_bsuid.id is not null and (their_phone is null or by_bsuid.phone = their_phone) then
            return by_bsuid;
        end if;
        select * into by_phone from agentops.customers c where c.phone = their_phone;
        if by_phone.id is not null and their_bsuid is null then
            return by_phone;
        end if;
        if by_bsuid.id is null and by_phone.id is null then
            -- A key may still name the lanes of somebody who had this phone before.
            insert into agentops.customers (bsuid, phone, key)
            values (their_bsuid, their_phone,
                    case when exists (select from agentops.customers c where c.key = new_key)
                         then new_key || '~' || gen_random_uuid() else new_key end)
            on conflict do nothing
            returning * into found_one;
            if found_one.id is not null then
                return found_one;
            end if;
        end if;
        -- Something known changes: one such change at a time, seen afresh.
        perform pg_advisory_xact_lock(x'637573746f6d'::bigint);
    end loop;
    if by_bsuid.id is not null then
        return agentops.identify_customer(by_bsuid.id, null, their_phone);
    end if;
    if by_phone.bsuid is null then
        return agentops.identify_customer(by_phone.id, their_bsuid, null);
    end if;
    -- The phone is another person's by now: they begin anew, and see nothing of who had it before.
    update agentops.customers set phone = null where id = by_phone.id;
    insert into agentops.customers (bsuid, phone, key)
    values (their_bsuid, their_phone,
            case when exists (select from agentops.customers c where c.key = their_bsuid)
                 then their_bsuid || '~' || gen_random_uuid() else their_bsuid end)
    returning * into found_one;
    return found_one;
end $$;

-- Meta says that a customer has another user id or phone now: the same customer, the same lane.
create function agentops.customer_changed(old_bsuid text, old_phone text, new_bsuid text, new_phone text)
returns agentops.customers language plpgsql as $$
declare
    found_one agentops.customers;
begin
    perform pg_advisory_xact_lock(x'637573746f6d'::bigint);
    select * into found_one from agentops.customers c where c.bsuid = old_bsuid;
    if found_one.id is null then
        select * into found_one from agentops.customers c where c.phone = old_phone;
    end if;
    if found_one.id is null then
        return null;
    end if;
    return agentops.identify_customer(found_one.id, new_bsuid, new_phone);
end $$;

-- Moves what was said in the lanes of a customer's former keys to the lane that they have now. A lane that a worker
-- holds is left for the next time. Rows are locked in one order.
create function agentops.unite_conversations(customer_id bigint) returns boolean language plpgsql as $$
declare
    who agentops.customers;
    old agentops.conversations;
    lane_now agentops.conversations;
    waits boolean := false;
begin
    perform pg_advisory_xact_lock(x'637573746f6d'::bigint);
    select * into who from agentops.customers c where c.id = customer_id;
    for old in
        select c.* from agentops.conversations c
        where c.lane in (select p.phone_id || ':' || f from unnest(who.formerly) f,
                                (select distinct phone_id from agentops.conversations) p)
        order by c.id for update
    loop
        select * into lane_now from agentops.conversations c where c.lane = old.phone_id || ':' || who.key for update;
        if lane_now.id is null then
            update agentops.conversations set lane = old.phone_id || ':' || who.key,
                customer = coalesce(who.phone, who.bsuid) where id = old.id;
        elsif old.lease_until > now() then
            waits := true;
        else
            update agentops.history set conversation_id = lane_now.id where conversation_id = old.id;
            update agentops.inbox set conversation_id = lane_now.id where conversation_id = old.id;
            update agentops.outbox set conversation_id = lane_now.id where conversation_id = old.id;
            update agentops.conversations c
            set due_at = case when exists (select from agentops.inbox i
                                           where i.conversation_id = c.id and i.state = 'queued')
                              then coalesce(least(c.due_at, old.due_at), now()) else c.due_at end,
                customer = coalesce(who.phone, who.bsuid) where c.id = lane_now.id;
            -- The fence shuts out a worker whose lease has ended without its knowing.
            update agentops.conversations
            set due_at = null, lease_owner = null, lease_until = null, fence = fence + 1 where id = old.id;
        end if;
    end loop;
    if not waits then
        update agentops.customers set formerly = '{}' where id = customer_id;
    end if;
    return not waits;
end $$;

-- What became of our messages, once each: Meta tells it again for seven days where it gets no 200.
create table agentops.statuses (
    wamid text not null,
    status text not null,
    payload jsonb not null,
    received_at timestamptz not null default now(),
    primary key (wamid, status)
);
create index statuses_received_at on agentops.statuses (received_at);
create index inbox_received_at on agentops.inbox (received_at) where state in ('done', 'skipped');

-- One incident tells of all leaks until somebody closes it.
create unique index incidents_one_open_pii_leak on agentops.incidents (kind) where kind = 'pii-leak' and status = 'open';
