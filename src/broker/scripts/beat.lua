-- A sign of life of one worker: renews its lease and what it holds, counts what waits, trims the dead letters.
--
-- KEYS  1 unacked_index   2 claims of this owner   3 owners (zset: owner -> end of lease, ms)   4 owner figures (hash: JSON)
--       5 dead   6 dead messages   7 dead entries   8 delayed   9… all lists of all queues
-- ARGV  1 owner   2 length of the lease, ms   3 figures of the worker (JSON)   4 '1' at the first beat
--       5 dead letters kept at most   6 and for how long, ms   7 number of the worker's connection, counting up
-- Returns {1, messages waiting, ms until the next delayed message is due or -1, owners whose lease is over…}, or {0} if
-- this owner's own lease was taken away.
--
-- Whoever recovers a dead owner's claims takes the field 'lease' out of them first: that owner must never go on,
-- even if it was only stopped. A lease that has merely run out, and that nobody has touched, may be renewed.

local index, claims, owners, figures = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner = ARGV[1]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local lease = call('HGET', claims, 'lease')
if not lease and ARGV[4] ~= '1' then return {0} end
-- Without memory left, Redis refuses a script whose first write could need some. A lease in force needs none, so
-- its renewal begins with a removal: leases must not run out while workers wait for memory.
local before = call('ZSCORE', owners, owner)
call('ZREM', owners, owner)
-- A beat of an earlier connection may come late; it must not take the lease back to that one.
if not lease or tonumber(lease) < tonumber(ARGV[7]) then call('HSET', claims, 'lease', ARGV[7]) end
call('ZADD', owners, now + tonumber(ARGV[2]), owner)
call('HSET', figures, owner, ARGV[3])

for _, number in ipairs(call('HKEYS', claims)) do
  if number ~= 'lease' then call('ZADD', index, 'XX', time[1], owner .. ':' .. number) end
end

local old = call('ZRANGEBYSCORE', KEYS[5], '-inf', now - tonumber(ARGV[6]), 'LIMIT', 0, 100)
local surplus = call('ZCARD', KEYS[5]) - tonumber(ARGV[5])
if surplus > 0 then old = call('ZRANGE', KEYS[5], 0, math.min(surplus, 100) - 1) end
if #old > 0 then
  call('ZREM', KEYS[5], unpack(old))
  call('HDEL', KEYS[6], unpack(old))
  call('HDEL', KEYS[7], unpack(old))
end

local waiting = 0
if call('EXISTS', unpack(KEYS, 9)) > 0 then -- one command while all are empty, in place of one for each
  for i = 9, #KEYS do waiting = waiting + call('LLEN', KEYS[i]) end
end
local due = call('ZRANGE', KEYS[8], 0, 0, 'WITHSCORES')[2]
local answer = {1, waiting, due and math.max(0, math.ceil(tonumber(due) - now)) or -1}
-- Whoever has not been here for a while, or never, can't tell the dead from those who were kept away with it (Redis
-- was gone, the host slept): they have time until its next beat.
if before and now - (tonumber(before) - tonumber(ARGV[2])) <= tonumber(ARGV[2]) / 2 then
  for _, other in ipairs(call('ZRANGEBYSCORE', owners, '-inf', now, 'LIMIT', 0, 20)) do answer[#answer + 1] = other end
end
return answer
