-- Whether the line that changes are announced on still stands.

-- alive --
select 1 as alive;
