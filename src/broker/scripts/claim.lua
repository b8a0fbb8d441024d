-- The second half of a step: claim and look. Comes after step.lua and uses what is local there.

-- Claim.
local claimed, noted, kept, scores = {}, {}, {}, {}

-- What the worker is told of a line, and how kombu's record of a message from it ends. Most messages of a step are of
-- few lines.
local froms_of, ends_of = {}, {}

local function claim(line, flow, charge, waits, messages)
  if not froms_of[line] then
    local list = list_of(line)
    froms_of[line] = string.find(line, RATE, 1, true) and line or list
    local queue = string.gsub(string.match(string.sub(list, #prefix + 1), '^[^\6]*'), '["\\]', '\\%0')
    ends_of[line] = ', "", "' .. queue .. '"]'
  end
  local from, ending, note = froms_of[line], ends_of[line], line .. '\0' .. flow .. '\0' .. charge .. '\0'
  for i, message in ipairs(messages) do
    local digits, n, m = sequence .. '', #kept, #claimed
    local name = owner .. ':' .. digits
    number = number + 1
    kept[n + 1], kept[n + 2] = name, '[' .. message .. ending
    noted[n + 1], noted[n + 2] = digits, note .. number
    -- Whole seconds: a short sorted set compares and stores integers several times faster than fractions.
    scores[n + 1], scores[n + 2] = time[1], name
    claimed[m + 1], claimed[m + 2], claimed[m + 3], claimed[m + 4], claimed[m + 5] = from, flow, number, waits[i], message
    sequence = sequence + 1
  end
  want = want - #messages
end

-- Slots of the whole fleet in which nothing runs.
local function free_slots()
  local free = -call('HLEN', unacked)
  for _, slots in ipairs(call('HVALS', own('slots'))) do free = free + slots end
  return free
end

-- Messages left in lanes, if slots are what they wait for.
local behind = 0

-- How many messages may be taken of a line now: of a limited task one, and then the next one not before its time.
local function take(line, most)
  if not bars then return most end
  if opens(line) > now then return 0 end
  local rate = rate_of(line)
  if not rate then return most end
  rate.z = now + rate.i
  set_bar('task:' .. string.match(line, RATE .. '(.*)$'), string.format('%.3f %.3f', rate.i, rate.z))
  return 1
end

-- How long the first so many messages of a line have waited, ms.
local function waits_of(place, messages)
  local waits, marks = {}, place.t or {}
  if messages == 1 and marks[1] == 1 and not marks[3] then -- all there is, most often
    place.t = nil
    return {math.max(0, now - marks[2])}
  end
  for i = 1, messages do
    waits[i] = marks[1] and math.max(0, now - marks[2]) or 0
    if marks[1] then marks[1] = marks[1] - 1 end
    if marks[1] and marks[1] <= 0 then
      table.remove(marks, 1)
      table.remove(marks, 1)
    end
  end
  place.t = marks[1] and marks or nil
  return waits
end

-- Takes up to `want` messages of a line from its front. Also returns how long each has waited there, ms.
local function pop(flow, line, want)
  local tenant = tenants[flow]
  local messages = call('RPOP', lane(line, flow), want) or {}
  local place = lines_of(tenant)[line]
  for _ = 1, place.f and math.min(#messages, #place.f) or 0 do table.remove(place.f, 1) end
  if place.f and #place.f == 0 then place.f = nil end
  local waits = waits_of(place, #messages)
  count(tenant, line, #messages < want and -place.n or -#messages)
  changed[flow] = true
  return messages, waits
end

-- The first of those who may run. Who has something only in lines that are not open leaves them; should these be very
-- many, the next step goes on with it.
local unsorted = false

local function first_ready(count)
  local flows = call('ZRANGE', ready, 0, count - 1)
  if not bars then return flows end
  for _ = 1, 5 do
    local shut = {}
    meet(flows)
    for _, flow in ipairs(flows) do
      if not tenants[flow] or not may_run(tenants[flow]) then
        shut[#shut + 1], changed[flow] = flow, tenants[flow] and true or nil
      end
    end
    if #shut == 0 then return flows end
    call('ZREM', ready, unpack(shut))
    remember()
    flows = call('ZRANGE', ready, 0, math.max(count, 100) - 1)
  end
  unsorted = true
  return flows
end

-- Messages of tasks known to be short are claimed several at a time: as many as take this long together, ms. What a claim
-- costs is mostly what has to be read and written of its tenant. Nobody waits longer for it than this.
local QUANTUM, MOST = 1, 8

local function times(charge) return math.max(1, math.min(MOST, math.floor(QUANTUM / charge))) end

-- How many messages of a tenant are claimed when it is its turn.
local function portion(tenant, charge, taken, left)
  if not tenant.c or tenant.m or tenant.i or bars then return 1 end
  return math.min(times(charge), tenant.n - taken, left)
end

-- Serves the tenants whose turn it is. Each claim is charged at once with what a task of this tenant is expected to
-- take. First as many are read as suffice if each gives a portion, and more in each further round. Returns whether one is
-- called for: since somebody was chosen who could then not be served, or since it is the turn of tenants that were not read.
local function serve(round)
  -- Of those this step has changed the sorted set doesn't know yet, and those held by the owner are not in it.
  local line, first, more = {}, 1, round == 1 and math.ceil(want / times(usual)) + 1 or round * want
  local function join(flow)
    local turn, low, high = turn_of(tenants[flow]), first, #line + 1
    -- Who was served a moment ago mostly goes to the end.
    local middle = high - 1
    while low < high do
      local other = line[middle]
      local its = turn_of(tenants[other])
      if its < turn or its == turn and other < flow then low = middle + 1 else high = middle end
      middle = low + high
      middle = (middle - middle % 2) / 2
    end
    if line[low] then table.insert(line, low, flow) else line[low] = flow end
  end
  -- Those served before are still where they were in the sorted set.
  for flow in pairs(round > 1 and changed or {}) do
    if tenants[flow] and tenants[flow].kept then more = more + 1 end
  end
  -- Slots that are reserved go to the first that run nothing, who are seldom far behind.
  local reserved = tonumber(ARGV[12])
  if reserved > 0 then more = more + 100 end
  local least = first_ready(more)
  meet(least)
  -- Those that were not read come behind the last that was, wherever that one is now.
  local all, last = #least < more, 0
  for _, flow in ipairs(least) do
    local tenant = tenants[flow]
    if tenant and not changed[flow] then line[#line + 1] = flow end
    if tenant and tenant.kept and tenant.kept > last then last = tenant.kept end
  end
  if all then last = math.huge end
  for flow in pairs(changed) do
    if tenants[flow] and tenants[flow].n > 0 then join(flow) end
  end
  for _, flow in ipairs(holds) do
    if tenants[flow] and not changed[flow] and tenants[flow].h == owner then join(flow) end
  end
  local free = reserved > 0 and free_slots() or math.huge
  local charges, texts, shares, taken, places = {}, {}, {}, {}, {}
  local left = want
  while left > 0 and line[first] do
    local flow = line[first]
    local tenant = tenants[flow]
    if turn_of(tenant) > last then break end
    first = first + 1
    -- Who can't be served now can't be later in this step, when less is free.
    if (bars and open_messages(tenant) or tenant.n) > (taken[flow] or 0) and may_run(tenant) and
      (free > reserved or tenant.r == 0) then
      if not taken[flow] then
        charges[flow], taken[flow], places[flow] = math.max(tenant.c or usual, 0.01), 0, tenant.e
        shares[#shares + 1] = flow
      end
      local some = reserved > 0 and 1 or portion(tenant, charges[flow], taken[flow], left)
      if tenant.v > floor then floor = tenant.v end
      tenant.v = tenant.v + some * charges[flow] / (tenant.w or 1)
      if tenant.v < floor then line_up(tenant) end
      tenant.r, taken[flow], free, left = tenant.r + some, taken[flow] + some, free - some, left - some
      if tenant.i then tenant.z = math.max(tenant.z or 0, now) + tenant.i end
      if tenant.n > taken[flow] then join(flow) end
    end
  end
  local short = left > 0 and not all
  for _, flow in ipairs(shares) do
    local tenant, left, charge = tenants[flow], taken[flow], texts[charges[flow]]
    if not charge then
      charge = string.format('%.3f', charges[flow])
      texts[charges[flow]] = charge -- mostly what is usual
    end
    for _, line in ipairs(by_turn(tenant)) do
      if left == 0 then break end
      local open = take(line, left)
      if open > 0 then
        local messages, waits = pop(flow, line, open)
        claim(line, flow, charge, waits, messages)
        left = left - #messages
        if #messages > 0 and #claimed > 5 * slots then tenant.h = owner end
        local all = lines_of(tenant)
        local several = next(all, next(all))
        if several or tenant.o then tenant.o = several and line end
      end
    end
    -- Another may have had the one start of a limited task.
    if left == taken[flow] then tenant.e = places[flow] end
    tenant.r, tenant.v, short = tenant.r - left, tenant.v - left * charges[flow] / (tenant.w or 1), short or left > 0
  end
  if want == 0 then
    local more_may_run, i = not all, first
    while not more_may_run and line[i] do more_may_run, i = may_run(tenants[line[i]]), i + 1 end
    if more_may_run then behind = waiting end
  end
  return short and not unsorted
end

if want > 0 then
  meet({})
  if throttled > 0 then let_run() end
  for round = 1, 10 do
    if waiting <= 0 or want == 0 or not serve(round) then break end
  end
end

-- Look: what is new in the lists, for the caller to say whose it is. While no tenant waits, free slots take the first
-- messages unseen, in kombu's order (`kombu/transport/redis.py`, `_brpop_start`): the most urgent priority step of
-- every queue before the next step of any; within a step one of each queue in turn, from one round to the next only of
-- those that had one.
local looked, turn = {}, -1

-- Only the lists that have rung, if the caller says which; it knows that the others are empty.
local function lists_with_messages()
  local rung, steps, all, found = ARGV[at + 2], {}, {}, {}
  for n, suffix in ipairs({'', '\6\0223', '\6\0226', '\6\0229'}) do
    local turns, lists = {}, {}
    if rung == '' then
      for i = 1, queues do turns[i] = i end
    else
      for queue in string.gmatch(rung, n - 1 .. ':(%d+)') do turns[#turns + 1] = (queue - cursor) % queues + 1 end
      table.sort(turns)
    end
    for i, nth in ipairs(turns) do
      lists[i] = KEYS[LISTS + 1 + (cursor + nth - 1) % queues] .. suffix
      all[#all + 1] = lists[i]
    end
    steps[n] = {turns = turns, lists = lists}
  end
  local left = #all > 1 and call('EXISTS', unpack(all)) or #all -- most often none
  for _, of in ipairs(steps) do
    local step, here = {}, left
    if left > 0 and #of.lists > 1 then here = call('EXISTS', unpack(of.lists)) end
    for i, list in ipairs(of.lists) do
      if here == 0 then break end
      local length = call('LLEN', list)
      if length > 0 then
        left, here = left - 1, here - 1
        if not is_paused(list) then
          local nth = of.turns[i]
          step[#step + 1] = {list = list, length = length, offset = nth - 1, next = (cursor + nth) % queues}
        end
      end
    end
    if #step > 0 then found[#found + 1] = step end
  end
  return found
end

-- Leaves out the lists another worker is looking at.
local function whose_turn_is_mine(places)
  local lists, mine = {}, {}
  for i, place in ipairs(places) do lists[i] = place.list end
  local turns = call('HMGET', intake, unpack(lists))
  for i, place in ipairs(places) do
    local by, till = string.match(turns[i] or '', '^(.*)%z(%d+)$')
    if by and by ~= owner and tonumber(till) > now then
      turn = turn < 0 and till - now or math.min(turn, till - now)
    else
      mine[#mine + 1] = place
    end
  end
  return mine
end

local function take_unseen(open)
  -- What is at hand of a list is filed by the next step as it was seen, if nothing has gone from before it.
  local places = {}
  for _, place in ipairs(open) do
    if not at_hand[place.list] then places[#places + 1] = place end
  end
  while want > 0 and #places > 0 do
    local still = {}
    for _, place in ipairs(places) do
      if want == 0 then return end
      claim(place.list, '', '0', {0}, {call('RPOP', place.list)})
      place.length, cursor = place.length - 1, place.next
      if place.length > 0 then still[#still + 1] = place end
    end
    places = still
  end
end

if look > 0 then
  local open, first = {}, cursor
  local steps = lists_with_messages()
  for _, step in ipairs(steps) do
    meet({})
    if answered < epoch then break end -- it could file nothing of it
    step = whose_turn_is_mine(step)
    want = math.min(want, slots - #claimed / 5)
    -- Nor while somebody holds messages that have not started: these may be of the same tenant, and come before.
    if unseen and waiting <= 0 and paused == 0 and holding <= 0 then take_unseen(step) end
    for _, place in ipairs(step) do
      if place.length > 0 then open[#open + 1] = place end
    end
  end
  -- Short lists are shown whole. Of long ones a few are, in turn, and much of each: to file one message each of many
  -- tenants of many lists costs several times what as many of a few do.
  local even = math.ceil(look / math.max(1, #open))
  local share, left, skipped, turns = math.max(even, math.min(look, 32)), look, nil, {}
  if #steps > 1 then
    table.sort(open, function(one, other) return one.offset < other.offset end)
  end
  for _, place in ipairs(open) do
    local seen = {place.list}
    -- What is behind messages at hand the caller asks for itself, right after this script: each byte that comes into Lua
    -- costs the server about as much as ten that don't.
    if not at_hand[place.list] then
      local length = (place.length <= even or left > 0) and math.min(place.length, share) or 0
      if place.length > even then left = left - length end
      if length == 0 then skipped = skipped or place.offset else
        if ARGV[9] + 0 < 0 then seen[2] = length else
          local messages = call('LRANGE', place.list, -length, -1)
          for i = #messages, 1, -1 do seen[#seen + 1] = messages[i] end
        end
      end
    end
    if #seen > 1 or at_hand[place.list] then
      looked[#looked + 1] = seen
      turns[#turns + 1], turns[#turns + 2] = place.list, owner .. '\0' .. (now + TURN)
    end
  end
  if skipped then cursor = first + skipped end
  -- Without memory left this may fail: then others may look as well, which costs no more than time.
  if #turns > 0 then redis.pcall('HSET', intake, unpack(turns)) end
end

if #kept > 0 then
  call('HSET', unacked, unpack(kept))
  if #kept > 32 then
    -- Redis keeps a short sorted set as a list, in which each of many new members has to find its place from the
    -- beginning. A long name makes it a skiplist until it is empty.
    local long = string.rep('.', 65)
    call('ZADD', index, 0, long)
    call('ZADD', index, unpack(scores))
    call('ZREM', index, long)
  else
    call('ZADD', index, unpack(scores))
  end
  call('HSET', claims, unpack(noted))
end
remember()
if throttled and throttled > 0 then
  local next_start = tonumber(call('ZRANGE', own('throttled'), 0, 0, 'WITHSCORES')[2] or now)
  next_due = math.min(next_due and tonumber(next_due) or next_start, next_start)
end
if unsorted then next_due = now end
-- What came back into lanes rings for nobody by itself.
if refilled and waiting and waiting > 0 then call('SET', ring, number) end
return {now, next_due and math.ceil(tonumber(next_due)) or -1, cursor % queues, lost, claimed, looked, turn,
  epoch and math.ceil(epoch) or -1, revoked or 0, behind, refused}
