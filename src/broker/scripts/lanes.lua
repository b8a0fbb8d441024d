-- The lanes of tenants, for all scripts: what is put into them, and which of a tenant is next. Comes after tenants.lua.

local lanes = own('lane:')
local function lane(line, flow) return lanes .. line .. '\031' .. flow end

local function list_of(line) return string.match(line, '^[^\031]*') end

local function count(tenant, line, change)
  local lines = lines_of(tenant)
  local place = lines[line] or {n = 0, t = nil}
  place.n = place.n + change
  tenant.n = tenant.n + change
  waiting = waiting + change
  lines[line] = place.n > 0 and place or nil
  return place
end

local MARKS = 6 -- pairs of number and time a line keeps at most; beyond that the two nearest are merged

-- Notes that the last so many messages of a line wait from now on.
local function mark(place, messages)
  local marks = place.t
  if not marks then
    place.t = {messages, now}
    return
  end
  local last = #marks
  if marks[last] == now then
    marks[last - 1] = marks[last - 1] + messages
  else
    if last >= 2 * MARKS then
      local first = 1
      for i = 3, last - 3, 2 do
        if marks[i + 3] - marks[i + 1] < marks[first + 3] - marks[first + 1] then first = i end
      end
      local one, other = marks[first], table.remove(marks, first + 2)
      marks[first + 1] = math.floor((one * marks[first + 1] + other * table.remove(marks, first + 2)) / (one + other))
      marks[first] = one + other
    end
    marks[#marks + 1], marks[#marks + 2] = messages, now
  end
end

-- Puts messages, the oldest first, to the end of a line.
local function put_back(flow, line, messages)
  local tenant = enter(flow)
  mark(count(tenant, line, #messages), #messages)
  call('LPUSH', lane(line, flow), unpack(messages))
end

-- Puts a claimed message back to its place: before all that were claimed later, or never.
local function put_front(flow, line, message, claimed)
  local tenant, key = enter(flow), lane(line, flow)
  local front = count(tenant, line, 1)
  local numbers, at = front.f or {}, 1
  while numbers[at] and numbers[at] < claimed do at = at + 1 end
  local earlier = at > 1 and call('RPOP', key, at - 1) or {}
  call('RPUSH', key, message)
  for i = #earlier, 1, -1 do call('RPUSH', key, earlier[i]) end
  table.insert(numbers, at, claimed)
  front.f, front.t = numbers, front.t or {}
  if front.t[2] == now then front.t[1] = front.t[1] + 1 else
    table.insert(front.t, 1, now)
    table.insert(front.t, 1, 1)
  end
end

-- Lines of a tenant, the first to be served first: by priority, what is due before what is new; of equal ones the one
-- after that which was served last.
local function by_turn(tenant)
  local all, lines = lines_of(tenant), {}
  local only = next(all)
  if not only or not next(all, only) then return {only} end
  for line in pairs(all) do lines[#lines + 1] = line end
  local function rank(line)
    local step = string.match(line, '\6\022(%d)') or '0'
    return step .. (string.find(line, DUE, 1, true) and '0' or '1') .. (line > (tenant.o or '') and '0' or '1') .. line
  end
  table.sort(lines, function(one, other) return rank(one) < rank(other) end)
  return lines
end
