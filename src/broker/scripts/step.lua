-- One step of a worker, atomic: settle what has ended, promote what is due, file what was looked at into lanes, claim
-- what free slots can take, look at what is new in the lists. Begins with tenants.lua.
--
-- KEYS  15… the lists of the most urgent priority step, one for each queue
-- ARGV  3 first free sequence number   4 how many to claim   5 queue to begin with (from 0)
--       6 database of the broker   7 database of the results
--       8 number of the owner's connection, or '0' if it is dead and being recovered
--       9 how many messages to look at (0: leave the lists alone)   10 '1' if a message may be claimed unseen
--      11 what a task is expected to take, ms, if its tenant has run none
--      12 free slots of the fleet that are kept for tenants that run nothing
--      13 number of settlements, then for each: sequence number, action, flow, what it ran (ms; -1 unknown), what the
--         flow is granted, message, note, number of results, then key, value and time to live (ms, 0 = for ever) of each
--      then number of the answer to whose a message is (epoch), number of filings, and for each: list, number of messages, end of the first and of the last message (64
--         bytes at most), number of flows, then name and grant of each; the flow of each message as two bytes
-- Actions: 'ack'; 'front' (message goes back to its place in its lane); 'list' (to the front of its list, past all
--       lanes); 'back' (to the end of its list);
--       'delay' (note = due, ms); 'dead' (note = JSON entry); 'store' (only the results: the task still runs).
-- Returns {now ms, next due ms or -1, queue to begin with next time, {sequence numbers no longer held},
--       {list, flow, claim number, how long it waited in lanes (ms), message, …}, {{list, message, …}, …}: what was
--       looked at, the oldest first, ms until a queue can be looked at whose turn another worker has, or -1, the present
--       epoch or -1 if it was not read, number of the latest revocation or 0, messages
--       left in lanes if as many were claimed as were wanted and more could run, else 0},
--       or an empty table if the lease is lost; then nothing was done.
--       The lease is also lost to a step that was sent on an earlier connection and comes late, when the server
--       stood still, say: its answer would reach nobody, and what it claimed would be forgotten.
--
-- The list of a claim that was started for good has the message behind a NUL (start.lua); it goes with the claim.
--
-- A claim is named `owner:sequence`, not by the message's own delivery_tag: tags may be missing or twins, and
-- no message has to be parsed here. Kombu doesn't mind: it restores the message, not the name.

local sequence, want, cursor = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local broker_db, results_db = ARGV[6], ARGV[7]
local look, unseen, expected = tonumber(ARGV[9]), ARGV[10] == '1', tonumber(ARGV[11])
local queues = #KEYS - LISTS

-- A worker looks at a list alone, until it has filed what it saw or this time (ms) is over.
local TURN = 1000

-- A stored SUCCESS is never overwritten, as in Celery (`backends/base.py`, `_store_result`), nor an end by a RETRY,
-- which a retry that ran quickly could otherwise suffer from.
local function store(key, value, ttl)
  local old = call('GET', key)
  if old then
    if string.sub(old, 1, 20) == '{"status": "SUCCESS"' then return end
    if string.sub(old, 1, 20) == '{"status": "FAILURE"' and string.sub(value, 1, 18) == '{"status": "RETRY"' then return end
  end
  if ttl == '0' then call('SET', key, value) else call('SET', key, value, 'PX', ttl) end
  call('PUBLISH', key, value)
end

-- Settle. All claims are looked up, and all that have ended are forgotten, in one call each: most of a step's cost is
-- calls.
local lost, fields, flows = {}, {'lease'}, {}
local settlements = tonumber(ARGV[13])
local settled, at = {}, 14
for i = 1, settlements do
  settled[i] = at
  fields[i + 1], flows[i] = ARGV[at], ARGV[at + 2]
  at = at + 8 + 3 * tonumber(ARGV[at + 7])
end
local held = call('HMGET', claims, unpack(fields))
if ARGV[8] ~= '0' and held[1] ~= ARGV[8] then return {} end
if settlements > 0 then
  -- All results first: when Redis has no memory left, or a result can't be stored for another reason, the step
  -- fails before a message has moved. A script that fails is not undone.
  local selected = broker_db
  for i = 1, settlements do
    local results = settled[i] + 7
    if ARGV[results] ~= '0' and held[i + 1] then
      if selected ~= results_db then call('SELECT', results_db) end
      selected = results_db
      for result = results + 1, results + 3 * tonumber(ARGV[results]), 3 do
        store(ARGV[result], ARGV[result + 1], ARGV[result + 2])
      end
    end
  end
  if selected ~= broker_db then call('SELECT', broker_db) end
  for i = 1, settlements do
    local own = held[i + 1] and string.match(held[i + 1], '%z(.-)%z')
    if own and own ~= '' then flows[i] = own end
  end
  meet(flows)
  local ended, names, over = {}, {}, {}
  for i = 1, settlements do
    local value, claimed_as = held[i + 1], fields[i + 1]
    local action, flow, message = ARGV[settled[i] + 1], flows[i], ARGV[settled[i] + 5]
    if not value or over[claimed_as] then
      lost[#lost + 1] = tonumber(claimed_as)
    elseif action ~= 'store' then
      local claim, note = owner .. ':' .. claimed_as, ARGV[settled[i] + 6]
      over[claimed_as] = true
      ended[#ended + 1], names[#names + 1] = claimed_as, claim
      if tenants[flow] then grant(flow, ARGV[settled[i] + 4]) end
      local line, claimed_nth = release(value, flow, tonumber(ARGV[settled[i] + 3]))
      -- What a stock worker has restored after its visibility timeout is in its list again.
      if action ~= 'ack' and not was_started(value) and call('HDEL', unacked, claim) == 0 then action = 'ack' end
      if action == 'front' then
        put_front(flow, line, message, claimed_nth)
        refilled = true
      elseif action == 'list' then call('RPUSH', list_of(line), message)
      elseif action == 'back' then call('LPUSH', list_of(line), message)
      elseif action == 'delay' then
        call('HSET', delayed_messages, claim, list_of(line) .. '\0' .. flow .. '\0' .. message)
        call('ZADD', delayed, note, claim)
      elseif action == 'dead' then
        call('HSET', dead_messages, claim, message)
        call('HSET', dead_entries, claim, note)
        call('ZADD', dead, now, claim)
      end
    end
  end
  if #names > 0 then
    call('HDEL', claims, unpack(ended))
    call('HDEL', unacked, unpack(names))
    call('ZREM', index, unpack(names))
  end
end

-- Promote: due messages wait in a line of their own, the earliest foremost, which is served before the others of the
-- same priority. A worker that claims one sees that its time has come.
local next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if next_due and tonumber(next_due) <= now and ARGV[8] ~= '0' then
  local consumed = {}
  for i = LISTS + 1, #KEYS do consumed[KEYS[i]] = true end
  local due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
  local kept = call('HMGET', delayed_messages, unpack(due))
  call('HDEL', delayed_messages, unpack(due)) -- first, because without memory left a script may not begin with a push
  call('ZREM', delayed, unpack(due))
  for i = 1, #due do
    if kept[i] then
      local list, flow, message = string.match(kept[i], '^(.-)%z(.-)%z(.*)$')
      if consumed[string.match(list, '^[^\6]*')] then
        meet({flow})
        put_back(flow, list .. DUE, {message})
        refilled = true
      else
        call('RPUSH', list, message) -- another fleet's
      end
    end
  end
  next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
end

-- File. Between the look and now nobody else has touched that end of the list, unless a stock worker did: then the
-- ends differ, and there will be another look.
local function ends_as(list, position, tail)
  local message = call('LINDEX', list, position)
  return message and string.sub(message, -#tail) == tail
end

local answered, filings = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
at = at + 2
for _ = 1, filings do
  local list, messages, kinds = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 4])
  local whose = ARGV[at + 5 + 2 * kinds]
  local names, parts = {}, {}
  for kind = 1, kinds do names[kind], parts[kind] = ARGV[at + 3 + 2 * kind], {} end
  meet(names)
  -- Nothing is filed by an answer that has been replaced: of one user some would be here and some there.
  if answered >= epoch and ends_as(list, -1, ARGV[at + 2]) and ends_as(list, -messages, ARGV[at + 3]) then
    for i, message in ipairs(call('RPOP', list, messages)) do
      local high, low = string.byte(whose, 2 * i - 1, 2 * i)
      local part = parts[high * 256 + low + 1]
      part[#part + 1] = message
    end
    for kind = 1, kinds do
      put_back(names[kind], list, parts[kind])
      grant(names[kind], ARGV[at + 4 + 2 * kind])
    end
  end
  call('HDEL', intake, list)
  at = at + 6 + 2 * kinds
end

-- Claim.
local claimed, hold, kept, scores = {}, {}, {}, {}

local function claim(line, flow, charge, waited, message)
  local list = list_of(line)
  local queue = string.gsub(string.match(string.sub(list, #prefix + 1), '^[^\6]*'), '["\\]', '\\%0')
  local name, n, m = owner .. ':' .. sequence, #kept, #claimed
  number = number + 1
  kept[n + 1], kept[n + 2] = name, '[' .. message .. ', "", "' .. queue .. '"]'
  hold[n + 1], hold[n + 2] = sequence, line .. '\0' .. flow .. '\0' .. charge .. '\0' .. string.format('%d', number)
  -- Whole seconds: a short sorted set compares and stores integers several times faster than fractions.
  scores[n + 1], scores[n + 2] = time[1], name
  claimed[m + 1], claimed[m + 2], claimed[m + 3], claimed[m + 4], claimed[m + 5] = list, flow, number, waited, message
  sequence, want = sequence + 1, want - 1
end

-- Slots of the whole fleet in which nothing runs.
local function free_slots()
  local free = -call('HLEN', unacked)
  for _, slots in ipairs(call('HVALS', own('slots'))) do free = free + slots end
  return free
end

-- Messages left in lanes, if slots are what they wait for.
local behind = 0

-- Serves the tenants with the least virtual time. Each claim is charged at once with what a task of this tenant is
-- expected to take. None but the first `want` can come to be served, since each claim moves one of them back.
local function serve()
  -- Of those this step has changed the sorted set doesn't know yet.
  local candidates, more = {}, want
  for flow in pairs(changed) do
    candidates[#candidates + 1] = flow
    more = more + 1
  end
  -- Slots that are reserved go to the first that run nothing, who are seldom far behind.
  local reserved = tonumber(ARGV[12])
  if reserved > 0 then more = more + 100 end
  for _, flow in ipairs(call('ZRANGE', ready, 0, more - 1)) do candidates[#candidates + 1] = flow end
  meet(candidates)
  local free = reserved > 0 and free_slots() or math.huge
  local charges, shares, taken = {}, {}, {}
  for _ = 1, want do
    local first
    for _, flow in ipairs(candidates) do
      local tenant = tenants[flow]
      if tenant and tenant.n > (taken[flow] or 0) and may_run(tenant) and (free > reserved or tenant.r == 0) and
        (not first or tenant.v < tenants[first].v or tenant.v == tenants[first].v and flow < first) then
        first = flow
      end
    end
    if not first then break end
    local tenant = tenants[first]
    if not taken[first] then
      charges[first], taken[first] = math.max(tenant.c or expected, 0.01), 0
      shares[#shares + 1] = first
    end
    floor = math.max(floor, tenant.v)
    tenant.v = tenant.v + charges[first] / (tenant.w or 1)
    tenant.r, taken[first], free = tenant.r + 1, taken[first] + 1, free - 1
    if tenant.i then tenant.z = math.max(tenant.z or 0, now) + tenant.i end
  end
  for _, flow in ipairs(shares) do
    local tenant, left = tenants[flow], taken[flow]
    local charge = string.format('%.3f', charges[flow])
    for _, line in ipairs(by_turn(tenant)) do
      if left == 0 then break end
      local messages, waits = pop(flow, line, left)
      for i, message in ipairs(messages) do
        claim(line, flow, charge, waits[i], message)
        left = left - 1
      end
      tenant.o = next(tenant.l, next(tenant.l)) and line or nil
    end
    tenant.r = tenant.r - left
  end
  -- Each claim has used up one candidate at most, so if more tenants could be served, one of them is among these.
  for _, flow in ipairs(candidates) do
    if want == 0 and tenants[flow] and may_run(tenants[flow]) then behind = waiting end
  end
end

if want > 0 then
  meet({})
  if throttled > 0 then let_run() end
  if waiting > 0 then serve() end
end

-- Look: what is new in the lists, for the caller to say whose it is. While no tenant waits, free slots take the first
-- messages unseen, in kombu's order (`kombu/transport/redis.py`, `_brpop_start`): the most urgent priority step of
-- every queue before the next step of any; within a step one of each queue in turn, from one round to the next only of
-- those that had one.
local looked, turn = {}, -1

local function lists_with_messages()
  local steps, all, found = {}, {}, {}
  for n, suffix in ipairs({'', '\6\0223', '\6\0226', '\6\0229'}) do
    steps[n] = {}
    for i = 1, queues do
      steps[n][i] = KEYS[LISTS + 1 + (cursor + i - 1) % queues] .. suffix
      all[#all + 1] = steps[n][i]
    end
  end
  if call('EXISTS', unpack(all)) == 0 then return found end -- most often
  for _, lists in ipairs(steps) do
    local step = {}
    if call('EXISTS', unpack(lists)) > 0 then
      for i, list in ipairs(lists) do
        local length = call('LLEN', list)
        if length > 0 then step[#step + 1] = {list = list, length = length, next = (cursor + i) % queues} end
      end
      found[#found + 1] = step
    end
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

local function take_unseen(places)
  while want > 0 and #places > 0 do
    local still = {}
    for _, place in ipairs(places) do
      if want == 0 then return end
      claim(place.list, '', '0', 0, call('RPOP', place.list))
      place.length, cursor = place.length - 1, place.next
      if place.length > 0 then still[#still + 1] = place end
    end
    places = still
  end
end

if look > 0 then
  local open = {}
  for _, step in ipairs(lists_with_messages()) do
    step = whose_turn_is_mine(step)
    meet({})
    if unseen and waiting <= 0 and paused == 0 then take_unseen(step) end
    for _, place in ipairs(step) do
      if place.length > 0 then open[#open + 1] = place end
    end
  end
  local share = math.ceil(look / math.max(1, #open))
  for _, place in ipairs(open) do
    local seen = {place.list}
    local messages = call('LRANGE', place.list, -share, -1)
    for i = #messages, 1, -1 do seen[#seen + 1] = messages[i] end
    looked[#looked + 1] = seen
    -- Without memory left this may fail: then others may look as well, which costs no more than time.
    redis.pcall('HSET', intake, place.list, owner .. '\0' .. (now + TURN))
  end
end

if #kept > 0 then
  call('HSET', unacked, unpack(kept))
  call('ZADD', index, unpack(scores))
  call('HSET', claims, unpack(hold))
end
remember()
if throttled and throttled > 0 then
  local next_start = tonumber(call('ZRANGE', own('throttled'), 0, 0, 'WITHSCORES')[2] or now)
  next_due = math.min(next_due and tonumber(next_due) or next_start, next_start)
end
-- What came back into lanes rings for nobody by itself.
if refilled and waiting and waiting > 0 then call('SET', ring, number) end
return {now, next_due and math.ceil(tonumber(next_due)) or -1, cursor % queues, lost, claimed, looked, turn,
  epoch or -1, revoked or 0, behind}
