-- A worker that has settled everything says goodbye. The last of a fleet leaves its queues as stock Celery expects them:
-- what waits in lanes goes back to the fronts of its lists, in the order of each tenant; the last of all, delayed messages
-- to their ends, where a Celery worker finds them and keeps their time itself. Comes after pour.lua.
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

-- No owner is left for whom a tenant could run or wait.
local budget = pour_back(tonumber(ARGV[3]), function(tenant) tenant.r, tenant.z = 0, nil end)
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
