-- Takes a dead owner's lease away for good and shows what it held.
--
-- KEYS  1 unacked   2 claims of the dead owner   3 owners   4 owner figures
-- ARGV  1 dead owner   2 at most so many claims
-- Returns {sequence number, list, '[message, "", "queue"]' or '', …}. When nothing is left the owner is forgotten.
-- Until then its score stays 0, so that it is found again should the recovering worker die too.

local call = redis.call
call('HDEL', KEYS[2], 'lease')
call('ZADD', KEYS[3], 0, ARGV[1])
local held = call('HGETALL', KEYS[2])
if #held == 0 then
  call('ZREM', KEYS[3], ARGV[1])
  call('HDEL', KEYS[4], ARGV[1])
  return {}
end
local answer = {}
for i = 1, math.min(#held, 2 * tonumber(ARGV[2])), 2 do
  answer[#answer + 1] = held[i]
  answer[#answer + 1] = held[i + 1]
  answer[#answer + 1] = call('HGET', KEYS[1], ARGV[1] .. ':' .. held[i]) or ''
end
return answer
