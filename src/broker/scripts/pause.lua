-- Has tenants wait until they are resumed, or run again. Begins with tenants.lua.
--
-- ARGV  3 '1' to pause, '0' to resume   4… flows
-- Returns how many of them were not in that state before.

local flows, count = {}, 0
for i = 4, #ARGV do flows[#flows + 1] = ARGV[i] end
meet(flows)
for _, flow in ipairs(flows) do
  count = count + call(ARGV[3] == '1' and 'SADD' or 'SREM', own('paused'), flow)
  local tenant = tenants[flow]
  if tenant then
    tenant.p = ARGV[3] == '1' or nil
    changed[flow] = true
  end
end
remember()
call('HSET', tenants_key, 'paused', call('SCARD', own('paused')))
if ARGV[3] == '0' then call('SET', ring, number) end
return count
