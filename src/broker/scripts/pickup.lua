-- What an idle worker claims of a list that has rung, in as little as that takes. A task that comes to an idle server
-- waits for every line and every key of this, which nobody has touched for a while; `step.lua` is several times as much.
-- It stands alone, without tenants.lua, and leaves to the step whatever is not the simplest case.
--
-- KEYS  1 unacked   2 unacked_index   3 claims of the owner   4 tenants   5 intake   6 the list
-- ARGV  1 owner   2 number of its connection   3 first free sequence number   4 free slots
--       5 how kombu's record of a message of this queue ends
-- Returns {now ms, epoch, number of the latest revocation, number of the last claim, whether there is more in the list
--       (1 or 0), message, …}; {now ms} if this is for a step: somebody waits in lanes, is paused or holds messages, a queue
--       is paused or the rate of a task is limited, or the list is looked at; an empty table if the lease is lost. In both cases
--       nothing was done.

local call = redis.call
local unacked, index, claims, tenants, intake, list = unpack(KEYS)
local owner, sequence, slots = ARGV[1], tonumber(ARGV[3]), ARGV[4]

if call('HGET', claims, 'lease') ~= ARGV[2] then return {} end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = call('HMGET', tenants, 'waiting', 'paused', 'bars', 'epoch', 'revoked', 'holding')
if (known[1] or '0') ~= '0' or (known[2] or '0') ~= '0' or (known[6] or '0') ~= '0' or known[3] or
  call('HEXISTS', intake, list) == 1 then
  return {now}
end
local reply = {now, math.ceil(known[4] or 0), tonumber(known[5] or 0), 0, 0}
-- The pop comes first: without memory left a script may not begin with anything that needs some, but go on with it.
local messages = call('RPOP', list, slots)
if messages then
  local last = call('HINCRBY', tenants, 'number', #messages)
  local kept, scores, noted = {}, {}, {}
  for i, message in ipairs(messages) do
    local name, n = owner .. ':' .. sequence, 2 * i
    kept[n - 1], kept[n] = name, '[' .. message .. ARGV[5]
    scores[n - 1], scores[n] = time[1], name
    noted[n - 1], noted[n] = sequence, list .. '\0\0000\0' .. string.format('%d', last - #messages + i)
    sequence = sequence + 1
    reply[5 + i] = message
  end
  call('HSET', unacked, unpack(kept))
  call('ZADD', index, unpack(scores))
  call('HSET', claims, unpack(noted))
  reply[4] = last
  if #messages == tonumber(slots) then reply[5] = call('EXISTS', list) end
end
return reply
