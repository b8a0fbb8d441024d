-- Replaces the answer to whose a message is, which the workers have found out. Begins with tenants.lua.
--
-- ARGV  3 number of the answer to be replaced (0: there is none)   4 the new answer (JSON)
-- Returns {1 if it was replaced, number of the answer in force, the answer, or ''}.
--
-- What waits in lanes goes back to the fronts of its lists, in its order, and is filed anew by the new answer: else of
-- one user new messages would overtake those that wait under another name. All in one go, since nothing may be filed
-- meanwhile; it happens when an application is new or has changed, not day by day.

local key = own('tenancy')
local present = tonumber(call('HGET', key, 'epoch') or 0)
if present ~= tonumber(ARGV[3]) then return {0, present, call('HGET', key, 'answer') or ''} end

-- The end of a lane first, so that its front comes last, foremost.
local function pour(line, flow)
  local from, list = lane(line, flow), list_of(line)
  if call('EXISTS', list) == 0 and call('EXISTS', from) == 1 then call('RENAME', from, list) end
  local messages = call('LPOP', from, 1000)
  while messages do
    call('RPUSH', list, unpack(messages))
    messages = call('LPOP', from, 1000)
  end
end

call('HSET', key, 'epoch', present + 1, 'answer', ARGV[4])
local fields = call('HKEYS', tenants_key)
for first = 1, #fields, 1000 do
  local flows = {}
  for i = first, math.min(first + 999, #fields) do
    if string.find(fields[i], ':', 1, true) then flows[#flows + 1] = fields[i] end
  end
  meet(flows)
  for _, flow in ipairs(flows) do
    local tenant = tenants[flow]
    local lines = by_turn(tenant)
    for i = #lines, 1, -1 do
      pour(lines[i], flow)
      count(tenant, lines[i], -lines_of(tenant)[lines[i]].n)
    end
    changed[flow] = true
  end
  remember()
end
meet({})
epoch = present + 1
remember()
return {1, epoch, ARGV[4]}
