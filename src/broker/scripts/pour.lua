-- Puts what waits in lanes back to the fronts of its lists, in the order of each line, so much in one call that nobody waits
-- long for the server. Comes after lanes.lua.

-- So many messages take as long as one tenant does.
local TENANT = 5

-- What goes to the front of each list, the foremost last: in one call for all lanes.
local fronts = {}

-- The end of a lane goes first to the front of the list, then what is before it: so its front comes last, foremost.
-- The counts go with it: whoever claims meanwhile, or goes on with it, finds lanes as they should be. Returns how many
-- messages were moved one by one.
local function pour(line, flow, most)
  local key, list, tenant = lane(line, flow), list_of(line), tenants[flow]
  local place = lines_of(tenant)[line]
  if not fronts[list] then
    fronts[list] = {}
    if call('EXISTS', list) == 0 and call('EXISTS', key) == 1 then
      call('RENAME', key, list)
      count(tenant, line, -place.n)
      return 0
    end
  end
  local front, left = fronts[list], 0
  local messages = call('LPOP', key, most) or {}
  for _, message in ipairs(messages) do front[#front + 1] = message end
  if #messages == most then left = call('LLEN', key) end
  count(tenant, line, left - place.n)
  while place.f and #place.f > left do table.remove(place.f) end
  return #messages
end

-- Up to so many messages, of tenants chosen at random: a scan from the beginning would find the places of all that have
-- been poured back, which are empty, in each call anew. `also`: what else is to be done with each of them. Returns what is
-- left of `budget`; the caller remembers the tenants.
local function pour_back(budget, also)
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
        while budget > 0 and lines_of(tenant)[lines[i]] do
          budget = budget - pour(lines[i], flow, math.max(1, math.min(budget, 1000)))
        end
      end
      if also then also(tenant) end
      changed[flow] = true
      budget = budget - TENANT
    end
  end
  for list, front in pairs(fronts) do
    for first = 1, #front, 1000 do call('RPUSH', list, unpack(front, first, math.min(first + 999, #front))) end
  end
  return budget
end
