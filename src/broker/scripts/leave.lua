-- A worker that has settled everything says goodbye. The last of all leaves the broker as stock Celery expects it:
-- delayed messages go back to the ends of their lists, where a Celery worker finds them and keeps their time itself.
--
-- KEYS  1 owners   2 owner figures   3 claims of this owner   4 delayed   5 delayed messages
-- ARGV  1 owner   2 at most so many messages in one call
-- Returns {how many delayed messages are still to be poured back (then call again), now ms, {other owner, end of its
-- lease, …}}; nothing is poured back while there are other owners.

local call = redis.call
if call('HLEN', KEYS[3]) == call('HEXISTS', KEYS[3], 'lease') then
  call('DEL', KEYS[3])
  call('ZREM', KEYS[1], ARGV[1])
  call('HDEL', KEYS[2], ARGV[1])
end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local others = call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
if #others > 0 then return {0, now, others} end
for _, claim in ipairs(call('ZRANGE', KEYS[4], 0, tonumber(ARGV[2]) - 1)) do
  local kept = call('HGET', KEYS[5], claim)
  if kept then
    local cut = string.find(kept, '\0', 1, true)
    call('LPUSH', string.sub(kept, 1, cut - 1), string.sub(kept, cut + 1))
    call('HDEL', KEYS[5], claim)
  end
  call('ZREM', KEYS[4], claim)
end
return {call('ZCARD', KEYS[4]), now, others}
