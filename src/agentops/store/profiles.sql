-- Customers. Existing stacks have more columns; these three are sure.

-- by_phone --
-- A number is not unique in existing stacks: the same one of several is taken every time.
select user_id::text as user_id, display_name
from public.profiles
where whatsapp_e164 = %(phone)s
order by user_id
limit 1;
