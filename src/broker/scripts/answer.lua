-- Replaces the answer to whose a message is, which the workers have found out. Comes after pour.lua.
--
-- ARGV  3 number of the answer to be replaced (0: there is none), or '' to go on only   4 the new answer (JSON)
--       5 at most so many messages in one call
-- Returns {1 if it is going to be replaced by this one, number of the answer in force, that answer, or '', 1 if another is
-- on its way: then call again, with ''}.
--
-- What waits in lanes goes back to the fronts of its lists first, in its order, to be filed anew by the new answer: else of
-- one user new messages would overtake those that wait under another name. Until all of it is there nothing is filed, since
-- the tenants' counter says that the answer is half a number further; what is still in lanes can be claimed. Whoever hears of
-- that counter goes on with it, so no worker's death ends it halfway.

local key = own('tenancy')
local kept = call('HMGET', key, 'epoch', 'answer', 'next')
local present, answer, coming = tonumber(kept[1] or 0), kept[2] or '', kept[3]
local begun = not coming and tonumber(ARGV[3]) == present
if begun then
  coming = ARGV[4]
  call('HSET', key, 'next', coming)
end
if coming then
  meet({})
  epoch = present + 0.5
  if waiting > 0 then pour_back(tonumber(ARGV[5])) end
  if waiting <= 0 then
    present, answer, coming = present + 1, coming, nil
    call('HSET', key, 'epoch', present, 'answer', answer)
    call('HDEL', key, 'next')
    epoch = present
  end
  remember()
end
return {begun and 1 or 0, present, answer, coming and 1 or 0}
