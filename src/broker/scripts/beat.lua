-- A sign of life of one worker: renews its lease and what it holds, counts what waits, trims the dead letters.
--
-- KEYS  1 unacked_index   2 claims of this owner   3 owners (zset: owner -> end of lease, ms)   4 owner figures (hash: JSON)
--       5 dead   6 dead messages   7 dead entries   8… all lists of all queues
-- ARGV  1 owner   2 length of the lease, ms   3 figures of the worker (JSON)   4 '1' at the first beat
--       5 dead letters kept at most   6 and for how long, ms
-- Returns {1, messages waiting, owners whose lease is over…}, or {0} if this owner's own lease was taken away.
--
-- A lease of score 0 is one that another worker has begun to recover: its owner must never renew it. One that
-- has merely run out, and that nobody has touched, may go on.

local index, claims, owners, figures = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner = ARGV[1]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[4] ~= '1' then
  local lease = call('ZSCORE', owners, owner)
  if not lease or lease == '0' then return {0} end
end
call('ZADD', owners, now + tonumber(ARGV[2]), owner)
call('HSET', figures, owner, ARGV[3])

local seconds = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
for _, number in ipairs(call('HKEYS', claims)) do
  call('ZADD', index, 'XX', seconds, owner .. ':' .. number)
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
for i = 8, #KEYS do waiting = waiting + call('LLEN', KEYS[i]) end
local answer = {1, waiting}
for _, other in ipairs(call('ZRANGEBYSCORE', owners, '-inf', now, 'LIMIT', 0, 20)) do answer[#answer + 1] = other end
return answer
