-- Has tenants or queues wait until they are resumed, or go on. Begins with tenants.lua.
--
-- ARGV  3 '1' to pause, '0' to resume   4 number of queues, then their names   then flows
-- Returns how many of them were not in that state before.

local pausing, queues = ARGV[3] == '1', tonumber(ARGV[4])
local flows, count = {}, 0
for i = 5 + queues, #ARGV do flows[#flows + 1] = ARGV[i] end
if queues > 0 then
  for i = 5, 4 + queues do
    local name = 'queue:' .. ARGV[i]
    if (call('HEXISTS', own('bars'), name) == 0) == pausing then count = count + 1 end
    set_bar(name, pausing and '')
  end
  if call('EXISTS', own('bars')) == 1 then call('HSET', tenants_key, 'bars', 1) else call('HDEL', tenants_key, 'bars') end
end
meet(flows)
if queues > 0 and not pausing and call('EXISTS', own('shut')) == 1 then
  -- As if their next start had been put off until now: the next steps see to them, some at a time.
  call('ZUNIONSTORE', own('throttled'), 2, own('throttled'), own('shut'), 'WEIGHTS', 1, 0, 'AGGREGATE', 'MIN')
  call('DEL', own('shut'))
  throttled = call('ZCARD', own('throttled'))
end
for _, flow in ipairs(flows) do
  count = count + call(pausing and 'SADD' or 'SREM', own('paused'), flow)
  local tenant = tenants[flow]
  if tenant then
    tenant.p = pausing or nil
    changed[flow] = true
  end
end
remember()
if #flows > 0 then call('HSET', tenants_key, 'paused', call('SCARD', own('paused'))) end
if not pausing then call('SET', ring, number) end
return count
