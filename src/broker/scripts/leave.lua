-- A worker that has settled everything says goodbye. The last of a fleet leaves its queues as stock Celery expects them:
-- what waits in lanes goes back to the fronts of its lists, in the order of each tenant; the last of all, delayed messages
-- to their ends, where a Celery worker finds them and keeps their time itself. Begins with tenants.lua.
--
-- ARGV  3 at most so many messages in one call   4 '1' if the others that are left are dead, and their leases taken away
-- Returns {how much is still to be poured back (then call again), now ms, {other owner, end of its lease, …}}; no
-- lane is poured back while there are others of the fleet, and nothing delayed while there are any.

if call('HLEN', claims) == call('HEXISTS', claims, 'lease') then
  call('DEL', claims)
  call('ZREM', owners, owner)
  call('HDEL', figures, owner)
  call('HDEL', own('slots'), owner)
end
local others = call('ZRANGE', owners, 0, -1, 'WITHSCORES')
local dead_others = ARGV[4] == '1'
local function fleet_of(name) return string.match(name, '%.(%x+):[^:]*$') end
for i = 1, dead_others and 0 or #others, 2 do
  if fleet_of(others[i]) == fleet_of(owner) then return {0, now, others} end
end

local budget = tonumber(ARGV[3])

-- So many messages take as long as one tenant does.
local TENANT = 5

-- What goes to the front of each list, the foremost last: in one call for all lanes.
local fronts = {}

-- The end of a lane goes first to the front of the list, then what is before it: so its front comes last, foremost.
-- The counts go with it, in case another owner comes before all is done.
local function pour(line, flow)
  local key, list, tenant = lane(line, flow), list_of(line), tenants[flow]
  local place = lines_of(tenant)[line]
  if not fronts[list] then
    fronts[list] = {}
    if call('EXISTS', list) == 0 and call('EXISTS', key) == 1 then
      call('RENAME', key, list)
      count(tenant, line, -place.n)
      return
    end
  end
  local most, front, left = math.max(1, math.min(budget, 1000)), fronts[list], 0
  local messages = call('LPOP', key, most) or {}
  for _, message in ipairs(messages) do front[#front + 1] = message end
  budget = budget - #messages
  if #messages == most then left = call('LLEN', key) end
  count(tenant, line, left - place.n)
  while place.f and #place.f > left do table.remove(place.f) end
end

-- Some who have not been poured back yet: any, since a scan from the beginning would find the places of all that have
-- been, which are empty, in each call anew.
local flows = {}
for _, field in ipairs(call('HRANDFIELD', tenants_key, math.ceil(budget / TENANT) + #COUNTERS + 2)) do
  if string.find(field, ':', 1, true) then flows[#flows + 1] = field end
end
meet(flows)
for _, flow in ipairs(flows) do
  local tenant = tenants[flow]
  if budget > 0 then
    local lines = by_turn(tenant)
    for i = #lines, 1, -1 do
      while budget > 0 and lines_of(tenant)[lines[i]] do pour(lines[i], flow) end
    end
    tenant.r, tenant.z = 0, nil -- no owner is left for whom it could run or wait
    changed[flow] = true
    budget = budget - TENANT
  end
end
for list, front in pairs(fronts) do
  for first = 1, #front, 1000 do call('RPUSH', list, unpack(front, first, math.min(first + 999, #front))) end
end
remember()
local left = call('HLEN', tenants_key) - call('HEXISTS', tenants_key, 'revoked') - call('HEXISTS', tenants_key, 'bars')
for _, counter in ipairs(COUNTERS) do left = left - call('HEXISTS', tenants_key, counter) end
if left == 0 then call('DEL', tenants_key, ready, own('throttled'), own('shut'), own('slots')) end
if #others > 0 and not dead_others then return {left, now, others} end
call('DEL', intake, ring)

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
