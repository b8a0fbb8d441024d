-- What all scripts share: names of keys, and the tenants. Each script is this file, lanes.lua, and its own.
--
-- KEYS  1 unacked (hash: claim -> '[message, "", "queue"]', kombu's)   2 unacked_index (zset: claim -> seconds, kombu's)
--       3 owners (zset: owner -> end of lease, ms)                     4 owner figures (hash: JSON)
--       5 delayed (zset: claim -> due, ms)                  6 delayed messages (hash: claim -> list NUL flow NUL message)
--       7 dead (zset: claim -> time, ms)                               8 dead messages (hash)   9 dead entries (hash: JSON)
--      10 tenants (hash: flow -> what `written` makes of it, and the counters below)   11 ready (zset: flow -> its turn, us)
--      12 intake (hash: list -> owner NUL end of its turn, ms)        13 ring (changes when lanes have filled)
--      14 claims of one owner (hash: sequence number -> line NUL flow NUL charge NUL number, and NUL message if its task
--         was started for good; 'lease' -> number of the owner's connection, until seized)                           15… lists
-- ARGV  1 prefix of all keys   2 owner
--
-- A flow is whose task a message is: a tenant, or, where nobody is named, its queue. What waits of a flow in one list
-- of a queue is a line, kept in a lane: a list of its own, oldest message at the right end. The name of a line is
-- that of the list, or, for messages whose time has come, the list's with DUE behind it; or, for messages of a task
-- whose rate is limited, the list's with RATE and the name of the task behind it.
--
-- A tenant, while it waits or runs: v virtual time (running time by weight, ms), r running, n waiting,
-- e the floor when it entered the line, as long as v is below (see `turn_of`),
-- c what one of its tasks takes (moving average, ms), h the owner that has claimed some before a slot was free for them, if
-- any (nobody else claims of it meanwhile: so it starts in order), w weight if not 1, m most running at once if limited,
-- i least time between two starts, ms, if limited, and z when the next may start; p paused, o line served last, l lines
-- (see `lines_of`): name -> {n waiting, f claim numbers of those at its front that came back, t since when they wait: pairs
-- of a number of messages and a time, ms, from the front}.
-- Counters: floor (virtual time where newcomers start), number (of the last claim), waiting (in all lanes), paused
-- (tenants), throttled (tenants that have to wait for their next start), epoch (counts the answers to whose a message
-- is; half a number more while another is on its way, see answer.lua), holding (tenants with h). Beside them: revoked
-- (number of the latest revocation, see revoke.lua), which is only read here, and bars (there is something in the
-- fleet's hash of that name, which is otherwise not asked: see `opens`).

local unacked, index, owners, figures, delayed, delayed_messages, dead, dead_messages, dead_entries,
  tenants_key, ready, intake, ring, claims = unpack(KEYS, 1, 14)
local LISTS, DUE, RATE = 14, '\031due', '\031rate\031'
local COUNTERS = {'floor', 'number', 'waiting', 'paused', 'throttled', 'epoch', 'holding'}
local prefix, owner = ARGV[1], ARGV[2]
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local tenants, changed, known = {}, {}, {}
local floor, number, waiting, paused, throttled, epoch, holding, revoked
local refilled = false -- others may find something in the lanes now

-- A key of this fleet: of the workers that consume the same queues.
local function own(name) return string.sub(tenants_key, 1, -#'tenants' - 1) .. name end

-- What keeps whole lines from being served: queues that are paused, and tasks whose rate is limited: name -> {i least
-- time between two starts, ms, z when the next may be}. Nil while there is nothing of both.
local bars

-- Kept as 'queue:NAME' -> '' and 'task:NAME' -> 'i z'.
local function read_bars()
  local kept = call('HGETALL', own('bars'))
  bars = {queues = {}, tasks = {}}
  for n = 1, #kept, 2 do
    local kind, name = string.match(kept[n], '^(%a+):(.*)$')
    local interval, start = string.match(kept[n + 1], '^(%S+) (%S+)$')
    if kind == 'queue' then bars.queues[name] = true else
      bars.tasks[name] = {i = tonumber(interval), z = tonumber(start)}
    end
  end
end

local function set_bar(name, value)
  if value then call('HSET', own('bars'), name, value) else call('HDEL', own('bars'), name) end
end

-- The limited rate of the task whose messages are in a line, if it has one.
local function rate_of(line)
  local _, last = string.find(line, RATE, 1, true)
  return last and bars and bars.tasks[string.sub(line, last + 1)]
end

local function is_paused(line)
  return bars and bars.queues[string.match(string.sub(line, #prefix + 1), '^[^\6\031]*')]
end

-- When the next message of a line may be claimed, ms; never while its queue is paused.
local function opens(line)
  if is_paused(line) then return math.huge end
  local rate = rate_of(line)
  return rate and rate.z or 0
end

-- A tenant is kept as so many MessagePack values one after the other, absent ones as nil: the fields in this order,
-- the number of lines, then of each its name, n, f and t. This takes less than half of what JSON does, which was a
-- sixth of a step. Most tenants have few of them: what is absent is not named in the table, which would make it larger,
-- and lines, which a step that only settles doesn't need, stay packed until asked for.
local function read(value)
  local rest, v, e, r, n, c, w, m, i, z, p, h, o = cmsgpack.unpack_limit(value, 12, 0)
  local tenant = {v = v, e = e, r = r, n = n, c = c, h = h, l = string.sub(value, rest + 1)}
  if w or m or i or z or p or o then tenant.w, tenant.m, tenant.i, tenant.z, tenant.p, tenant.o = w, m, i, z, p, o end
  return tenant
end

local function lines_of(tenant)
  if type(tenant.l) == 'table' then return tenant.l end
  local values = {cmsgpack.unpack(tenant.l)}
  tenant.l = {}
  for at = 2, 4 * values[1], 4 do tenant.l[values[at]] = {n = values[at + 1], f = values[at + 2], t = values[at + 3]} end
  return tenant.l
end

local ABSENT = string.rep('\192', 7) -- w to o, as nil
local function written(tenant)
  local pack, lines, parts, count = cmsgpack.pack, tenant.l, {}, 0
  local head, rest = pack(tenant.v, tenant.e, tenant.r, tenant.n, tenant.c), ABSENT
  if tenant.w or tenant.m or tenant.i or tenant.z or tenant.p or tenant.h or tenant.o then
    rest = pack(tenant.w, tenant.m, tenant.i, tenant.z, tenant.p, tenant.h, tenant.o)
  end
  if type(lines) == 'string' then return head .. rest .. lines end
  for line, place in pairs(lines) do
    parts[count + 1], parts[count + 2], parts[count + 3], parts[count + 4] = line, place.n, place.f, place.t
    count = count + 4
  end
  return head .. rest .. pack(count / 4, unpack(parts, 1, count))
end

-- How many of its messages could be claimed now: of a task whose rate is limited, one at a time.
local function open_messages(tenant)
  local open = 0
  for line, place in pairs(lines_of(tenant)) do
    if opens(line) <= now then open = open + (rate_of(line) and 1 or place.n) end
  end
  return open
end

local function may_run(tenant)
  return not tenant.p and (not tenant.m or tenant.r < tenant.m) and (not tenant.z or tenant.z <= now)
    and (not tenant.h or tenant.h == owner) and (bars and open_messages(tenant) or tenant.n) > 0
end

-- Whoever comes first may have it.
local function is_free(tenant) return may_run(tenant) and not tenant.h end

-- Where a tenant is in the order of all that wait.
local function turn_of(tenant)
  local entered = tenant.e
  return entered and entered > tenant.v and entered or tenant.v
end

-- With which turn a tenant is to be in the sorted set of those that are ready, if at all.
local function ready_turn(tenant) return is_free(tenant) and turn_of(tenant) or nil end

-- Reads what is known of these flows, in one call for all.
local function meet(flows)
  local fields = {}
  for _, flow in ipairs(flows) do
    if flow ~= '' and tenants[flow] == nil then
      tenants[flow] = false
      fields[#fields + 1] = flow
    end
  end
  local count = #fields
  if not floor then
    for _, counter in ipairs(COUNTERS) do fields[#fields + 1] = counter end
    fields[#fields + 1], fields[#fields + 2] = 'revoked', 'bars'
  end
  if #fields == 0 then return end
  local values = call('HMGET', tenants_key, unpack(fields))
  if not floor then
    if values[count + #COUNTERS + 2] then read_bars() end
    local read = {}
    for i, counter in ipairs(COUNTERS) do
      known[counter] = values[count + i] and tonumber(values[count + i])
      read[i] = known[counter] or 0
    end
    floor, number, waiting, paused, throttled, epoch, holding = unpack(read)
    revoked = tonumber(values[count + #COUNTERS + 1] or 0)
  end
  for i = 1, count do
    if values[i] then
      local tenant = read(values[i])
      tenant.kept, tenant.held = ready_turn(tenant), tenant.h ~= nil -- what sorted set and counter have, until `remember`
      tenants[fields[i]] = tenant
    end
  end
end

-- What a task is expected to take, ms, if its tenant has run none; a step knows it.
local usual = 0

-- Puts a tenant behind all others that have had less than the floor. These are served in the order in which they came,
-- whoever of them has had least: among quiet users the longest wait counts, not who had how many tasks of late.
local function line_up(tenant)
  floor = floor + 0.001
  tenant.e = floor
end

-- A flow that is about to wait.
local function enter(flow)
  local tenant = tenants[flow]
  if not tenant then
    tenant = {v = -math.huge, e = 0, r = 0, n = 0, l = {}}
    tenants[flow] = tenant
    if paused > 0 and call('SISMEMBER', own('paused'), flow) == 1 then tenant.p = true end
  end
  if tenant.n == 0 then
    -- So much a quiet user's click may fan out to before it takes turns with a bulk job: half a second's worth (ms), two
    -- tasks at least and six at most. More credit can't be saved up.
    local task = tenant.c or usual
    local credit = math.max(2 * task, math.min(6 * task, 500))
    tenant.v = math.max(tenant.v, floor - credit / (tenant.w or 1))
    line_up(tenant)
  end
  changed[flow] = true
  return tenant
end

-- What the operator grants a flow: `weight most interval`, or nothing in particular.
local function grant(flow, granted)
  local tenant = tenants[flow]
  if granted == '' and not tenant.w and not tenant.m and not tenant.i then return end -- most often
  local weight, most, interval = string.match(granted, '^(%S+) (%S+) (%S+)$')
  tenant.w = weight and weight ~= '1' and tonumber(weight) or nil
  tenant.m = most and most ~= '0' and tonumber(most) or nil
  tenant.i = interval and interval ~= '0' and tonumber(interval) or nil
  if not tenant.i then tenant.z = nil end
  changed[flow] = true
end

-- What is noted of a claim: line, flow, charge, number of the claim; and the message, if its task was started for good.
local function parts_of(value) return string.match(value, '^([^%z]*)%z([^%z]*)%z([^%z]*)%z(%d+)%z?(.*)$') end

local function was_started(value) return string.find(value, '^[^%z]*%z[^%z]*%z[^%z]*%z%d+%z') ~= nil end

-- A claim of these parts is over: its tenant runs one less, and is charged what it ran (ms; -1: unknown), not the expected.
local function release(parts, flow, ran)
  local own = parts[2] ~= '' and parts[2] or flow
  local tenant = tenants[own]
  if tenant then
    local paid = 0
    if parts[2] ~= '' then
      refilled = refilled or tenant.n > 0 and not tenant.h and not may_run(tenant)
      tenant.r = math.max(0, tenant.r - 1)
      paid = tonumber(parts[3])
    end
    if ran >= 0 then
      tenant.v = tenant.v + (ran - paid) / (tenant.w or 1)
      if ran > 0 then tenant.c = tenant.c and tenant.c + (ran - tenant.c) / 4 or ran end
    end
    changed[own] = true
  end
end

-- Those whose next start was put off until now may run again.
local function let_run()
  local due = call('ZRANGEBYSCORE', own('throttled'), '-inf', now, 'LIMIT', 0, 100)
  if #due == 0 then return end
  call('ZREM', own('throttled'), unpack(due))
  meet(due)
  for _, flow in ipairs(due) do changed[flow] = tenants[flow] and true or nil end
  throttled = throttled - #due
end

-- Of a tenant that may not run: when the first of its lines opens that is not paused (0 if none has to wait), and
-- whether one is paused.
local function next_opening(tenant)
  if not bars then return 0, false end
  local first, any_paused = math.huge, false
  for line in pairs(lines_of(tenant)) do
    first = math.min(first, opens(line))
    any_paused = any_paused or is_paused(line)
  end
  return first < math.huge and first > now and first or 0, any_paused
end

-- Writes the tenants back. Who neither waits nor runs is forgotten; when nobody is left, so is the virtual time.
local function remember()
  local fields, leave, enter_ready, leave_ready, wait, shut = {}, {}, {}, {}, {}, {}
  for flow in pairs(changed) do
    local tenant = tenants[flow]
    local turn, kept = ready_turn(tenant), tenant.kept
    if tenant.z and tenant.z <= now then tenant.z = nil end
    if tenant.n <= 0 or tenant.e and tenant.e <= tenant.v then tenant.e = nil end
    local holds = tenant.h ~= nil
    if tenant.n <= 0 and tenant.r <= 0 and not tenant.z then leave[#leave + 1], holds = flow, false else
      fields[#fields + 1] = flow
      fields[#fields + 1] = written(tenant)
    end
    if holds ~= (tenant.held or false) then holding = holding + (holds and 1 or -1) end
    tenant.kept, tenant.held = turn, holds
    local start, any_paused = 0, false
    if not turn then start, any_paused = next_opening(tenant) end
    if any_paused then shut[#shut + 1] = flow end
    if tenant.z or start > 0 then
      wait[#wait + 1] = tostring(math.max(tenant.z or 0, start))
      wait[#wait + 1] = flow
    end
    if turn then
      -- In whole microseconds: a sorted set that is short is kept as a list, in which fractions are text.
      enter_ready[#enter_ready + 1] = string.format('%d', turn * 1000 + 0.5)
      enter_ready[#enter_ready + 1] = flow
    elseif kept or bars then -- before a queue was paused it may have been
      leave_ready[#leave_ready + 1] = flow
    end
  end
  changed = {}
  if #wait > 0 then
    call('ZADD', own('throttled'), unpack(wait))
    throttled = call('ZCARD', own('throttled'))
  end
  if #shut > 0 then call('SADD', own('shut'), unpack(shut)) end -- looked at again when a queue is resumed
  if floor then
    -- All of them, as soon as one has changed: when there is nothing else, everybody is gone.
    local counters, moved = {floor, number, waiting, paused, throttled, epoch, holding}, false
    for i, name in ipairs(COUNTERS) do moved = moved or counters[i] ~= (known[name] or 0) end
    for i, name in ipairs(COUNTERS) do
      local value = counters[i]
      if moved and value ~= known[name] then
        fields[#fields + 1] = name
        fields[#fields + 1] = string.format('%.14g', value)
        known[name] = value
      end
    end
  end
  if #leave > 0 then call('HDEL', tenants_key, unpack(leave)) end
  if #leave_ready > 0 then call('ZREM', ready, unpack(leave_ready)) end
  if #fields > 0 then call('HSET', tenants_key, unpack(fields)) end
  if #enter_ready > 0 then call('ZADD', ready, unpack(enter_ready)) end
  if #leave > 0 and waiting <= 0 and floor > 0 and call('HLEN', tenants_key) <= #COUNTERS then
    floor, known.floor, holding, known.holding = 0, 0, 0, 0
    call('HSET', tenants_key, 'floor', 0, 'holding', 0)
  end
end
