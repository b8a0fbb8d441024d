-- One step of a worker, atomic: settle what has ended, promote what is due, file what was looked at into lanes, claim
-- what free slots can take, look at what is new in the lists. Begins with tenants.lua, ends with claim.lua.
--
-- KEYS  15… the lists of the most urgent priority step, one for each queue
-- ARGV  3 first free sequence number   4 how many to claim   5 queue to begin with (from 0)
--       6 database of the broker   7 database of the results
--       8 number of the owner's connection, or '0' if it is dead and being recovered
--       9 how many messages to look at (0: leave the lists alone; less than 0: say only how many of which list)
--      10 '1' if a message may be claimed unseen
--      11 what a task is expected to take, ms, if its tenant has run none
--      12 free slots of the fleet that are kept for tenants that run nothing
--      13 how many of the claims are for free slots; what is claimed beyond waits in the worker
--      14 number of settlements, then for each: sequence number, action, flow, what it ran (ms; -1 unknown), what the
--         flow is granted, message, note, number of results, then key, value and time to live (ms, 0 = for ever) of each
--      then number of the answer to whose a message is (epoch), number of filings, and for each: list, number of
--         messages, end of the first and of the last message (64 bytes at most), number of kinds, then of each: flow, its
--         grant, task if its rate is limited (else ''); the kind of each message as two bytes
--      then number of lists of which the caller has messages at hand that are not filed yet, and these; what is behind
--         these is not shown, only whose turn it is
--      then number of flows of which the owner has messages that have not started, and these; and the same for flows of
--         which it had, and has none any more
--      then which lists to look at: '' for all, else `priority step:queue` (both from 0) of each, and a hyphen
-- Actions: 'ack'; 'front' (message goes back to its place in its lane); 'list' (to the front of its list, past all
--       lanes); 'back' (to the end of its list);
--       'limit' (note = task: it waits for the next start of that task); 'delay' (note = due, ms);
--       'dead' (note = JSON entry); 'store' (only the results: the task still runs).
-- Returns {now ms, next due ms or -1, queue to begin with next time, {sequence numbers no longer held},
--       {list (its line, if it has waited for the rate of its task), flow, claim number, how long it waited in lanes
--       (ms), message, …}, {{list, message, …}, …}: what was looked at, the oldest first (a list
--       with messages at hand alone, if its turn is the caller's; with their number in place of the messages where only
--       that was asked for), ms until a queue can be looked at whose turn another worker has, or -1, the present epoch or -1
--       if it was not read, number of the latest revocation or 0, messages left in lanes if as many were claimed as were
--       wanted and more could run, else 0,
--       {lists of which something was not filed, since it was no longer there: what is shown of these begins at their
--       front, and what the caller has of them is worth nothing}},
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
local look, unseen = math.abs(tonumber(ARGV[9])), ARGV[10] == '1'
usual = tonumber(ARGV[11])
local slots = tonumber(ARGV[13])
local queues = #KEYS - LISTS

-- A worker looks at a list alone, until it has filed what it saw or this time (ms) is over.
local TURN = 1000

-- A stored SUCCESS is never overwritten, as in Celery (`backends/base.py`, `_store_result`), nor an end by a RETRY,
-- which a retry that ran quickly could otherwise suffer from.
local function store(key, value, ttl)
  local expiry = ttl ~= '0' and {'PX', ttl} or {}
  if not call('SET', key, value, 'NX', unpack(expiry)) then
    local old = call('GET', key)
    if string.sub(old, 1, 20) == '{"status": "SUCCESS"' then return end
    if string.sub(old, 1, 20) == '{"status": "FAILURE"' and string.sub(value, 1, 18) == '{"status": "RETRY"' then return end
    call('SET', key, value, unpack(expiry))
  end
  call('PUBLISH', key, value)
end

-- Settle. All claims are looked up, and all that have ended are forgotten, in one call each: most of a step's cost is
-- calls.
local lost, fields, flows = {}, {'lease'}, {}
local settlements = tonumber(ARGV[14])
local settled, notes, at = {}, {}, 15
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
    notes[i] = held[i + 1] and {parts_of(held[i + 1])}
    if notes[i] and notes[i][2] ~= '' then flows[i] = notes[i][2] end
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
      local line, claimed_nth = notes[i][1], tonumber(notes[i][4])
      release(notes[i], flow, tonumber(ARGV[settled[i] + 3]))
      -- What a stock worker has restored after its visibility timeout is in its list again.
      if action ~= 'ack' and not was_started(value) and call('HDEL', unacked, claim) == 0 then action = 'ack' end
      if action == 'front' then
        put_front(flow, line, message, claimed_nth)
        refilled = true
      elseif action == 'list' then call('RPUSH', list_of(line), message)
      elseif action == 'back' then call('LPUSH', list_of(line), message)
      elseif action == 'limit' then
        -- What was claimed unseen came before all that was seen; of that there may be much, in its order.
        local limited = list_of(line) .. RATE .. ARGV[settled[i] + 6]
        if string.find(value, '^[^%z]*%z%z') then put_front(flow, limited, message, claimed_nth)
        else put_back(flow, limited, {message}) end
        refilled = true
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
  local due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 50)
  local kept = call('HMGET', delayed_messages, unpack(due))
  call('HDEL', delayed_messages, unpack(due)) -- first, because without memory left a script may not begin with a push
  call('ZREM', delayed, unpack(due))
  local lines, flows_due, messages_of = {}, {}, {} -- what is of one line goes there in one call
  for i = 1, #due do
    if kept[i] then
      local line, list, flow, message = string.match(kept[i], '^((.-)%z(.-)%z)(.*)$')
      if consumed[string.match(list, '^[^\6]*')] then
        if not messages_of[line] then
          lines[#lines + 1], flows_due[#flows_due + 1], messages_of[line] = {line, list, flow}, flow, {}
        end
        table.insert(messages_of[line], message)
        refilled = true
      else
        call('RPUSH', list, message) -- another fleet's
      end
    end
  end
  meet(flows_due)
  for _, line in ipairs(lines) do put_back(line[3], line[2] .. DUE, messages_of[line[1]]) end
  next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
end

-- File. Between the look and now nobody else has touched that end of the list, unless a stock worker did, or the turn was
-- over: then the ends differ, and all that the caller has read of the list is dropped. What it has at hand lies behind
-- what is not filed, so it would never be at the front.
local function ends_as(list, position, tail)
  local message = call('LINDEX', list, position)
  return message and string.sub(message, -#tail) == tail
end

local answered, filings, refused = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), {}
at = at + 2
for _ = 1, filings do
  local list, messages, kinds = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 4])
  local whose = ARGV[at + 5 + 3 * kinds]
  local names, parts = {}, {}
  for kind = 1, kinds do names[kind], parts[kind] = ARGV[at + 2 + 3 * kind], {} end
  meet(names)
  -- Nothing is filed by an answer that has been replaced: of one user some would be here and some there.
  if answered >= epoch and ends_as(list, -1, ARGV[at + 2]) and ends_as(list, -messages, ARGV[at + 3]) then
    local popped = call('RPOP', list, messages)
    if kinds == 1 then parts[1] = popped end -- a bulk job: by far the most messages are filed so
    for i, message in ipairs(kinds > 1 and popped or {}) do
      local high, low = string.byte(whose, 2 * i - 1, 2 * i)
      local part = parts[high * 256 + low + 1]
      part[#part + 1] = message
    end
    for kind = 1, kinds do
      local task = ARGV[at + 4 + 3 * kind]
      refilled = refilled or task ~= ''
      put_back(names[kind], task == '' and list or list .. RATE .. task, parts[kind])
      grant(names[kind], ARGV[at + 3 + 3 * kind])
    end
    call('HDEL', intake, list)
  else refused[#refused + 1] = list end
  at = at + 6 + 3 * kinds
end

local at_hand = {}
for _ = 1, tonumber(ARGV[at]) do
  at = at + 1
  at_hand[ARGV[at]] = true
end
for _, list in ipairs(refused) do at_hand[list] = nil end
at = at + 1

-- Hold. Of whom the owner has messages that have not started, nobody else may start one: it would be out of order. What
-- a dead owner held, and claims whose answer never arrived, comes to an end by their settlement.
local holds, held_still = {}, {}
for _ = 1, tonumber(ARGV[at]) do
  at = at + 1
  holds[#holds + 1], held_still[ARGV[at]] = ARGV[at], true
end
for _ = 1, tonumber(ARGV[at + 1]) do
  at = at + 1
  flows[#flows + 1] = ARGV[at + 1]
end
if #holds + #flows > 0 then
  meet(holds)
  meet(flows)
end
for _, flow in ipairs(flows) do
  local tenant = tenants[flow]
  if tenant and tenant.h == owner and not held_still[flow] then
    tenant.h, changed[flow] = nil, true
    refilled = refilled or tenant.n > 0
  end
end
