-- Customers. The rules of who is whom are functions of the database, so that every server follows the same ones.

-- changed --
-- A function in `from` is called once.
select who.id
from agentops.customer_changed(%(old_user_id)s, %(old_phone)s, %(new_user_id)s, %(new_phone)s) who;

-- unite --
select agentops.unite_conversations(%(id)s::bigint);

-- phone --
select case when c.customer like '+%%' then c.customer end as phone
from agentops.conversations c
where c.id = %(conversation)s::bigint;

-- known_phones --
select phone from agentops.customers where phone is not null
union select customer from agentops.conversations where customer like '+%%'
union select whatsapp_e164 from public.profiles where whatsapp_e164 is not null
union select whatsapp_e164 from public.vouchers;

-- identities --
select identity
from agentops.customers c, unnest(array[c.phone, c.bsuid, c.key] || c.formerly) as identity
where identity is not null
  and (c.phone = %(identity)s::text or c.bsuid = %(identity)s::text or c.key = %(identity)s::text
       or %(identity)s::text = any(c.formerly));
