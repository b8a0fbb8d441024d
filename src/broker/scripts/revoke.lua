-- Takes tasks back: their ids are kept, and whoever claims one of their messages does not run it.
--
-- KEYS  1 revoked (zset: id -> number of its revocation)   2 tenants (hash; its field 'revoked' is the latest number)
-- ARGV  1 how long an id is kept, ms   2 ids kept at most   3… ids
-- Returns the number of the latest revocation.
--
-- A revocation's number is its time in ms, made unique: so old ones are found by it, a worker can ask for those later
-- than it knows, and a step tells it, at no cost, that there are such. An id that is there already keeps its number.

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = tonumber(call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or 0)
local number = math.max(now, latest + 1)

call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]))
local added = 0
for i = 3, #ARGV do added = added + call('ZADD', KEYS[1], 'NX', string.format('%.0f', number), ARGV[i]) end
if added == 0 and latest > 0 then
  redis.call('HSET', KEYS[2], 'revoked', string.format('%.0f', latest)) -- another fleet may have been told first
  return latest
end
call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[2]) - 1)
call('PEXPIRE', KEYS[1], ARGV[1])
call('HSET', KEYS[2], 'revoked', string.format('%.0f', number))
return number
