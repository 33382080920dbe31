-- Stored events that a reader has not seen yet.

-- unseen --
-- A snapshot is the reader's cursor; the one of this statement comes back in every row, and also where nothing matches.
-- Ids alone would skip rows, because a transaction that began earlier may commit later. '1:1:' has seen nothing.
with matching as (
    select at, id, level, event, correlation_id, function, data
    from agentops.logs
    where xid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
      and not pg_visible_in_snapshot(xid, %(seen)s::pg_snapshot)
      and (%(slugs)s::text[] is null or function = any(%(slugs)s::text[]))
      and (%(levels)s::text[] is null or level = any(%(levels)s::text[]))
      and (%(event)s::text is null or event like %(event)s::text)
      and (%(correlation)s::text is null or correlation_id = %(correlation)s::text)
      and (%(since)s::timestamptz is null or at >= %(since)s::timestamptz)
      and (%(until)s::timestamptz is null or at < %(until)s::timestamptz)
      -- Who wrote, whom it is about, or all who wrote.
      and (%(customers)s::text[] is null or data ->> 'customer' = any(%(customers)s::text[])
           or data ->> 'about' = any(%(customers)s::text[]) or data -> 'customers' ?| %(customers)s::text[])
      -- The line as it is printed, so that what a reader sees can be searched for.
      and (%(grep)s::text is null or position(%(grep)s::text in
           '{"timestamp": "' || to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
           || '", "level": ' || to_json(level) || ', "event": ' || to_json(event)
           || ', "correlation_id": ' || to_json(correlation_id) || ', "function": ' || to_json(function)
           || case data when '{}' then '}' else ', ' || substr(data::text, 2) end) > 0)
    order by at desc, id desc
    limit %(limit)s::bigint
)
select m.*, pg_current_snapshot()::text as snapshot
from (values (1)) as always(one) left join matching m on true
order by m.at, m.id;
