-- Our own rows about hosted projects: which versions were deployed, incidents, who changed what. A hosted project's API
-- keeps none of them. Only additions: a server of the version before goes on working beside it.

create table agentops.project_entries (
    id bigint generated always as identity primary key,
    -- The project's reference: a database may be a copy of another project's, whose entries are not this one's.
    project text not null check (project ~ '^[a-z]{20}$'),
    book text not null check (book in ('deployments', 'incidents', 'audit')),
    -- Made by the machine that wrote the entry down first: one that is sent again is stored once.
    key uuid not null unique,
    at timestamptz not null,
    entry jsonb not null check (jsonb_typeof(entry) = 'object'),
    -- An incident's number is counted on from.
    check (book <> 'incidents' or coalesce(entry ->> 'id' ~ '^[1-9][0-9]{0,8}$', false))
);
create index project_entries_book on agentops.project_entries (project, book, id);

-- It only grows: what was done stays done, whatever comes after it, and the machines that wrote an entry keep a copy.
create function agentops.refuse_project_entry_change() returns trigger language plpgsql as $$
begin
    raise exception 'agentops.project_entries only grows' using errcode = 'object_not_in_prerequisite_state';
end $$;
create trigger project_entries_only_grow before update or delete or truncate on agentops.project_entries
    for each statement execute function agentops.refuse_project_entry_change();

-- The incident that an entry (one of `items`) belongs to. `first` names the entry that its machine began the incident
-- with; without it the number is one that was given here. One incident is open at a time: what another machine begins
-- meanwhile is that one, unless it has ended by now (a restore names the entries that it ends). Else the number that the machine wrote down counts, or the next one
-- where that is taken.
create function agentops.project_incident(of_project text, item jsonb, items jsonb) returns bigint language plpgsql as $$
declare
    given bigint := (item -> 'entry' ->> 'id')::bigint;
    number bigint;
begin
    if item ->> 'first' is null then
        return given;
    end if;
    select (e.entry ->> 'id')::bigint into number
    from agentops.project_entries e where e.project = of_project and e.key = (item ->> 'first')::uuid;
    if number is null and not exists (
        select from jsonb_array_elements(items) i (value)
        where i.value -> 'first' = item -> 'first' and i.value -> 'entry' ->> 'action' = 'incident.restore'
    ) then
        select max((e.entry ->> 'id')::bigint) into number
        from agentops.project_entries e
        where e.project = of_project and e.book = 'incidents' and e.entry ->> 'action' = 'kill-switch'
          and not exists (select from agentops.project_entries r
                          where r.project = of_project and r.book = 'incidents'
                            and r.entry ->> 'action' = 'incident.restore'
                            and case when r.entry ? 'ends' then r.entry -> 'ends' @> to_jsonb(e.key::text)
                                     else r.id > e.id and r.entry -> 'id' = e.entry -> 'id' end);
    end if;
    if number is null then
        select case when bool_or((e.entry ->> 'id')::bigint = given) then max((e.entry ->> 'id')::bigint) + 1
                    else given end into number
        from agentops.project_entries e where e.project = of_project and e.book = 'incidents';
    end if;
    return number;
end $$;

-- Adds entries ([{book, key, at, first, entry}], in order) and gives each as it is stored, also where it was already.
-- Writers take turns, so that a number is given once and two who begin an incident at the same moment share it.
create function agentops.add_project_entries(of_project text, items jsonb)
returns setof agentops.project_entries language plpgsql as $$
declare
    item jsonb;
begin
    perform pg_advisory_xact_lock(hashtextextended('agentops.project_entries ' || of_project, 0));
    for item in select i.value from jsonb_array_elements(items) with ordinality i (value, place) order by i.place loop
        insert into agentops.project_entries (project, book, key, at, entry)
        values (of_project, item ->> 'book', (item ->> 'key')::uuid, (item ->> 'at')::timestamptz,
                case when item ->> 'book' = 'incidents'
                     then item -> 'entry' || jsonb_build_object('id', agentops.project_incident(of_project, item, items))
                     else item -> 'entry' end)
        on conflict (key) do nothing;
        return query select * from agentops.project_entries e where e.key = (item ->> 'key')::uuid;
    end loop;
end $$;
