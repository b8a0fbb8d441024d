-- A worker that has settled everything says goodbye. The last of all leaves the broker as stock Celery expects it:
-- what waits in lanes goes back to the fronts of its lists, in the order of each tenant, and delayed messages to their
-- ends, where a Celery worker finds them and keeps their time itself. Begins with tenants.lua.
--
-- ARGV  3 at most so many messages in one call
-- Returns {how much is still to be poured back (then call again), now ms, {other owner, end of its lease, …}}; nothing
-- is poured back while there are other owners.

if call('HLEN', claims) == call('HEXISTS', claims, 'lease') then
  call('DEL', claims)
  call('ZREM', owners, owner)
  call('HDEL', figures, owner)
  call('HDEL', own('slots'), owner)
end
local others = call('ZRANGE', owners, 0, -1, 'WITHSCORES')
if #others > 0 then return {0, now, others} end

local budget = tonumber(ARGV[3])

-- The end of a lane goes first to the front of the list, then what is before it: so its front comes last, foremost.
local function pour(line, flow)
  local key, list = lane(line, flow), list_of(line)
  if call('EXISTS', list) == 0 and call('EXISTS', key) == 1 then
    call('RENAME', key, list)
    return true
  end
  local messages = call('LPOP', key, math.max(1, math.min(budget, 1000)))
  if messages then
    call('RPUSH', list, unpack(messages))
    budget = budget - #messages
  end
  return call('EXISTS', key) == 0
end

-- What has been poured back is forgotten, so the scan begins anew with each call.
local found = call('HSCAN', tenants_key, 0, 'COUNT', 100)[2]
for i = 1, #found, 2 do
  local flow = found[i]
  if budget > 0 and string.find(flow, ':', 1, true) then
    local lines, all = by_turn(cjson.decode(found[i + 1])), true
    for n = #lines, 1, -1 do
      while all and budget > 0 and not pour(lines[n], flow) do end
      all = all and call('EXISTS', lane(lines[n], flow)) == 0
    end
    if all then
      call('HDEL', tenants_key, flow)
      call('ZREM', ready, flow)
      budget = budget - 1
    end
  end
end
local left = call('HLEN', tenants_key) - call('HEXISTS', tenants_key, 'revoked')
for _, counter in ipairs(COUNTERS) do left = left - call('HEXISTS', tenants_key, counter) end
if left == 0 then call('DEL', tenants_key, ready, intake, ring, own('throttled')) end

if budget > 0 then
  for _, claim in ipairs(call('ZRANGE', delayed, 0, budget - 1)) do
    local kept = call('HGET', delayed_messages, claim)
    if kept then
      local list, message = string.match(kept, '^(.-)%z.-%z(.*)$')
      call('LPUSH', list, message)
      call('HDEL', delayed_messages, claim)
    end
    call('ZREM', delayed, claim)
  end
end
return {left + call('ZCARD', delayed), now, others}
