-- Puts dead letters back to the ends of their lists, as new messages. Each is moved or left as a whole: one that is no
-- longer there, because somebody else was faster, is passed over.
--
-- KEYS  1 dead (zset: name -> time, ms)   2 dead messages (hash)   3 dead entries (hash)   4… the list of each message
-- ARGV  per message: name, the message as it is to be put back
-- Returns how many were moved.
--
-- LPUSH first: it is what can fail, for lack of memory or for a key of another type, and then nothing of this message
-- has moved.

local call = redis.call
local moved = 0
for i = 1, #ARGV / 2 do
  local name = ARGV[2 * i - 1]
  if call('HEXISTS', KEYS[2], name) == 1 then
    call('LPUSH', KEYS[3 + i], ARGV[2 * i])
    call('HDEL', KEYS[2], name)
    moved = moved + 1
  end
  call('HDEL', KEYS[3], name)
  call('ZREM', KEYS[1], name)
end
return moved
