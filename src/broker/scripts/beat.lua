-- A sign of life of one worker: renews its lease and what it holds, counts what waits, trims the dead letters.
-- Begins with tenants.lua.
--
-- KEYS 15… all lists of all queues
-- ARGV  3 length of the lease, ms   4 figures of the worker (JSON)   5 '1' at the first beat
--       6 dead letters kept at most   7 and for how long, ms   8 number of the worker's connection, counting up
--       9 slots of the worker   10 visibility timeout of stock workers, s
-- Returns {1, messages waiting, ms until the next delayed message is due or -1, tenants that wait and may run, claims
-- nobody has renewed for longer than the visibility timeout, owners whose lease is over…}, or {0} if this owner's own
-- lease was taken away.
--
-- Whoever recovers a dead owner's claims takes the field 'lease' out of them first: that owner must never go on,
-- even if it was only stopped. A lease that has merely run out, and that nobody has touched, may be renewed.

-- Redis keeps a short hash as a list, which it searches from its beginning for each field. A long value makes it a table,
-- and that it stays for as long as anything is in it.
local function be_table(hash)
  call('HSET', hash, 'long', string.rep('.', 1000))
  call('HDEL', hash, 'long')
end

local lease = call('HGET', claims, 'lease')
if not lease and ARGV[5] ~= '1' then return {0} end
-- Without memory left, Redis refuses a script whose first write could need some. A lease in force needs none, so
-- its renewal begins with a removal: leases must not run out while workers wait for memory.
local before = call('ZSCORE', owners, owner)
call('ZREM', owners, owner)
-- A beat of an earlier connection may come late; it must not take the lease back to that one.
if not lease or tonumber(lease) < tonumber(ARGV[8]) then
  call('HSET', claims, 'lease', ARGV[8])
  be_table(claims) -- while it has the lease
end
call('ZADD', owners, now + tonumber(ARGV[3]), owner)
call('HSET', figures, owner, ARGV[4])
call('HSET', own('slots'), owner, ARGV[9])
if ARGV[5] == '1' then -- who stays paused while nobody works is known again
  local count = call('SCARD', own('paused'))
  if count > 0 then call('HSET', tenants_key, 'paused', count) end
  if call('EXISTS', own('bars')) == 1 then call('HSET', tenants_key, 'bars', 1) end
end

for _, sequence in ipairs(call('HKEYS', claims)) do
  if sequence ~= 'lease' then call('ZADD', index, 'XX', time[1], owner .. ':' .. sequence) end
end

local old = call('ZRANGEBYSCORE', dead, '-inf', now - tonumber(ARGV[7]), 'LIMIT', 0, 100)
local surplus = call('ZCARD', dead) - tonumber(ARGV[6])
if surplus > 0 then old = call('ZRANGE', dead, 0, math.min(surplus, 100) - 1) end
if #old > 0 then
  call('ZREM', dead, unpack(old))
  call('HDEL', dead_messages, unpack(old))
  call('HDEL', dead_entries, unpack(old))
end

meet({})
if waiting > 0 then be_table(tenants_key) end
if throttled > 0 then -- by workers, too, that have been told of no limits
  let_run()
  remember()
end
local all = waiting
if call('EXISTS', unpack(KEYS, LISTS + 1)) > 0 then -- one command while all are empty, in place of one for each
  for i = LISTS + 1, #KEYS do all = all + call('LLEN', KEYS[i]) end
end
local due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
local answer = {1, all, due and math.max(0, math.ceil(tonumber(due) - now)) or -1, call('ZCARD', ready),
  call('ZCOUNT', index, '-inf', time[1] - tonumber(ARGV[10]))}
-- Whoever has not been here for a while, or never, can't tell the dead from those who were kept away with it (Redis
-- was gone, the host slept): they have time until its next beat.
if before and now - (tonumber(before) - tonumber(ARGV[3])) <= tonumber(ARGV[3]) / 2 then
  for _, other in ipairs(call('ZRANGEBYSCORE', owners, '-inf', now, 'LIMIT', 0, 20)) do answer[#answer + 1] = other end
end
return answer
