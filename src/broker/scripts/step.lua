-- One step of a worker, atomic: settle what has ended, promote what is due, claim what free slots can take.
--
-- KEYS  1 unacked (hash: claim -> '[message, "", "queue"]', kombu's)   2 unacked_index (zset: claim -> seconds, kombu's)
--       3 claims of this owner (hash: sequence number -> list; 'lease' -> number of the owner's connection, until seized)
--       4 delayed (zset: claim -> due, ms)                             5 delayed messages (hash: claim -> list NUL message)
--       6 dead (zset: claim -> time, ms)                               7 dead messages (hash)   8 dead entries (hash: JSON)
--       9… the queues, in order
-- ARGV  1 owner   2 first free sequence number   3 how many to claim   4 queue to begin with (from 0)
--       5 length of the key prefix   6 database of the broker   7 database of the results
--       8 number of the owner's connection, or '0' if it is dead and being recovered   9 number of settlements
--       10… per settlement: sequence number, action, message, note, number of results, then key, value and
--       time to live (ms, 0 = for ever) of each
-- Actions: 'ack'; 'front' and 'back' (message goes to that end of its list); 'delay' (note = due, ms);
--       'dead' (note = JSON entry); 'store' (only the results: the task still runs).
-- Returns {now ms, next due ms or -1, queue to begin with next time, {sequence numbers no longer held},
--       {list, message, list, message, …}}, or an empty table if the lease is lost; then nothing was done.
--       The lease is also lost to a step that was sent on an earlier connection and comes late, when the server
--       stood still, say: its answer would reach nobody, and what it claimed would be forgotten.
--
-- The list of a claim that was started for good has the message behind a NUL (start.lua); it goes with the claim.
--
-- A claim is named `owner:sequence`, not by the message's own delivery_tag: tags may be missing or twins, and
-- no message has to be parsed here. Kombu doesn't mind: it restores the message, not the name.

local unacked, index, claims, delayed, delayed_messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local dead, dead_messages, dead_entries = KEYS[6], KEYS[7], KEYS[8]
local owner, sequence, want, cursor = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local broker_db, results_db = ARGV[6], ARGV[7]
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

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

-- All claims are looked up, and all that have ended are forgotten, in one call each: most of a step's cost is calls.
local lost, fields = {}, {'lease'}
local count = tonumber(ARGV[9])
local settled = {}
local at = 10
for i = 1, count do
  settled[i] = at
  fields[i + 1] = ARGV[at]
  at = at + 5 + 3 * tonumber(ARGV[at + 4])
end
local lists = call('HMGET', claims, unpack(fields))
if ARGV[8] ~= '0' and lists[1] ~= ARGV[8] then return {} end
if count > 0 then
  -- All results first: when Redis has no memory left, or a result can't be stored for another reason, the step
  -- fails before a message has moved. A script that fails is not undone.
  local selected = broker_db
  for i = 1, count do
    at = settled[i]
    local results = tonumber(ARGV[at + 4])
    if results > 0 and lists[i + 1] then
      if selected ~= results_db then call('SELECT', results_db) end
      selected = results_db
      for result = at + 5, at + 2 + 3 * results, 3 do store(ARGV[result], ARGV[result + 1], ARGV[result + 2]) end
    end
  end
  if selected ~= broker_db then call('SELECT', broker_db) end
  local ended, names, gone = {}, {}, {}
  for i = 1, count do
    local list, number = lists[i + 1], fields[i + 1]
    if not list or gone[number] then
      lost[#lost + 1] = tonumber(number)
    else
      at = settled[i]
      local action, message, note = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
      if action ~= 'store' then
        if action ~= 'ack' then list = string.match(list, '^%Z*') end
        local claim = owner .. ':' .. number
        gone[number] = true
        ended[#ended + 1] = number
        names[#names + 1] = claim
        if action == 'front' then call('RPUSH', list, message)
        elseif action == 'back' then call('LPUSH', list, message)
        elseif action == 'delay' then
          call('HSET', delayed_messages, claim, list .. '\0' .. message)
          call('ZADD', delayed, note, claim)
        elseif action == 'dead' then
          call('HSET', dead_messages, claim, message)
          call('HSET', dead_entries, claim, note)
          call('ZADD', dead, now, claim)
        end
      end
    end
  end
  if #names > 0 then
    call('HDEL', claims, unpack(ended))
    call('HDEL', unacked, unpack(names))
    call('ZREM', index, unpack(names))
  end
end

-- Due messages go to the front of their list, the earliest foremost; a worker that claims one sees that its time has come.
local next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
local due = {}
if next_due and tonumber(next_due) <= now then
  due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
  next_due = nil
end
for i = #due, 1, -1 do
  local kept = call('HGET', delayed_messages, due[i])
  if kept then
    local cut = string.find(kept, '\0', 1, true)
    call('HDEL', delayed_messages, due[i]) -- first, because without memory left a script may not begin with RPUSH
    call('RPUSH', string.sub(kept, 1, cut - 1), string.sub(kept, cut + 1))
  end
  call('ZREM', delayed, due[i])
end

-- Kombu's order (`kombu/transport/redis.py`, `_brpop_start`): the most urgent priority step of every queue before
-- the next step of any; within a step one message of each queue in turn, from one round to the next only of those
-- that had one.
local claimed, hold, kept, scores = {}, {}, {}, {}
local queues = #KEYS - 8

local function take(list, suffix)
  local message = call('RPOP', list)
  if not message then return false end
  local queue = string.sub(list, tonumber(ARGV[5]) + 1, #list - #suffix)
  local claim, n = owner .. ':' .. sequence, #claimed
  kept[n + 1], kept[n + 2] = claim, '[' .. message .. ', "", "' .. string.gsub(queue, '["\\]', '\\%0') .. '"]'
  hold[n + 1], hold[n + 2] = sequence, list
  -- Whole seconds: a short sorted set compares and stores integers several times faster than fractions.
  scores[n + 1], scores[n + 2] = time[1], claim
  claimed[n + 1], claimed[n + 2] = list, message
  sequence, want = sequence + 1, want - 1
  return true
end

local function rounds(first, suffix)
  local live = {}
  for i = 1, queues do live[i] = (first + i - 1) % queues end
  while want > 0 and #live > 0 do
    local still = {}
    for _, queue in ipairs(live) do
      if want == 0 then return end
      if take(KEYS[9 + queue] .. suffix, suffix) then
        still[#still + 1] = queue
        cursor = queue + 1
      end
    end
    live = still
  end
end

if want > 0 then rounds(cursor, '') end
for _, suffix in ipairs({'\6\0223', '\6\0226', '\6\0229'}) do
  if want == 0 then break end
  local lists = {}
  for i = 1, queues do lists[i] = KEYS[8 + i] .. suffix end
  if call('EXISTS', unpack(lists)) > 0 then rounds(cursor, suffix) end
end
if #kept > 0 then
  call('HSET', unacked, unpack(kept))
  call('ZADD', index, unpack(scores))
  call('HSET', claims, unpack(hold))
end

if #due > 0 then next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] end
return {now, next_due and math.ceil(tonumber(next_due)) or -1, cursor % queues, lost, claimed}
