-- Items in the form of OpenAI's Responses API.

-- recent --
select item from (
    select id, item from agentops.history
    where conversation_id = %(conversation)s
    order by id desc
    limit %(limit)s
) newest
order by id;

-- append --
insert into agentops.history (conversation_id, item)
select %(conversation)s, each.item
from jsonb_array_elements(%(items)s::jsonb) with ordinality as each (item, place)
order by each.place;
