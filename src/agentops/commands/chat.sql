-- What became of one message that this command sent.

-- outcome --
select i.state, i.last_error, o.state as outbox_state, o.body
from agentops.inbox i
left join agentops.outbox o on o.inbox_id = i.id
where i.message_id = %(message_id)s;
