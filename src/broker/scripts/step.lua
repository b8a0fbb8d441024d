-- One step of a worker, atomic: settle what has ended, promote what is due, claim what free slots can take.
--
-- KEYS  1 unacked (hash: claim -> '[message, "", "queue"]', kombu's)   2 unacked_index (zset: claim -> seconds, kombu's)
--       3 claims of this owner (hash: sequence number -> list)         4 owners (zset: owner -> end of lease, ms)
--       5 delayed (zset: claim -> due, ms)                             6 delayed messages (hash: claim -> list NUL message)
--       7 dead (zset: claim -> time, ms)                               8 dead messages (hash)   9 dead entries (hash: JSON)
--       10… the queues, in order
-- ARGV  1 owner   2 first free sequence number   3 how many to claim   4 queue to begin with (from 0)
--       5 length of the key prefix   6 database of the broker   7 database of the results
--       8 '1': the owner must hold its lease; '0': it is dead and being recovered   9 number of settlements
--       10… per settlement: sequence number, action, message, note, number of results, then key, value and
--       time to live (ms, 0 = for ever) of each
-- Actions: 'ack'; 'front' and 'back' (message goes to that end of its list); 'delay' (note = due, ms);
--       'dead' (note = JSON entry); 'store' (only the results: the task still runs).
-- Returns {now ms, next due ms or -1, queue to begin with next time, {sequence numbers no longer held},
--       {list, message, list, message, …}}, or an empty table if the lease is lost; then nothing was done.
--
-- A claim is named `owner:sequence`, not by the message's own delivery_tag: tags may be missing or twins, and
-- no message has to be parsed here. Kombu doesn't mind: it restores the message, not the name.

local unacked, index, claims, owners, delayed, delayed_messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local dead, dead_messages, dead_entries = KEYS[7], KEYS[8], KEYS[9]
local owner, sequence, want, cursor = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local broker_db, results_db = ARGV[6], ARGV[7]
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[8] == '1' then
  local lease = call('ZSCORE', owners, owner)
  if not lease or lease == '0' then return {} end
end

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

local lost = {}
local at = 10
for _ = 1, tonumber(ARGV[9]) do
  local number, action, message, note, results = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  at = at + 5
  local list = call('HGET', claims, number)
  if list then
    -- Results first: when Redis has no memory left, the first write fails and with it the whole step.
    if results > 0 then
      if results_db ~= broker_db then call('SELECT', results_db) end
      for result = at, at + 3 * (results - 1), 3 do store(ARGV[result], ARGV[result + 1], ARGV[result + 2]) end
      if results_db ~= broker_db then call('SELECT', broker_db) end
    end
    if action ~= 'store' then
      local claim = owner .. ':' .. number
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
      call('HDEL', claims, number)
      call('HDEL', unacked, claim)
      call('ZREM', index, claim)
    end
  else
    lost[#lost + 1] = tonumber(number)
  end
  at = at + 3 * results
end

-- Due messages go to the front of their list, the earliest foremost; a worker that claims one sees that its time has come.
local due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
for i = #due, 1, -1 do
  local kept = call('HGET', delayed_messages, due[i])
  if kept then
    local cut = string.find(kept, '\0', 1, true)
    call('RPUSH', string.sub(kept, 1, cut - 1), string.sub(kept, cut + 1))
    call('HDEL', delayed_messages, due[i])
  end
  call('ZREM', delayed, due[i])
end

-- Kombu's order (`kombu/transport/redis.py`, `_brpop_start`): the most urgent priority step of every queue before
-- the next step of any; within a step one message of each queue in turn.
local claimed, hold, kept, scores = {}, {}, {}, {}
local seconds = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
local queues = #KEYS - 9
for _, suffix in ipairs({'', '\6\0223', '\6\0226', '\6\0229'}) do
  if want == 0 then break end
  local lists = {}
  for i = 1, queues do lists[i] = KEYS[9 + (cursor + i - 1) % queues + 1] .. suffix end
  if call('EXISTS', unpack(lists)) > 0 then
    local turn = 1
    while want > 0 and #lists > 0 do
      if turn > #lists then turn = 1 end
      local list = lists[turn]
      local message = call('RPOP', list)
      if message then
        local queue = string.sub(list, tonumber(ARGV[5]) + 1, #list - #suffix)
        local claim = owner .. ':' .. sequence
        kept[#kept + 1] = claim
        kept[#kept + 1] = '[' .. message .. ', "", "' .. queue .. '"]'
        hold[#hold + 1] = sequence
        hold[#hold + 1] = list
        scores[#scores + 1] = seconds
        scores[#scores + 1] = claim
        claimed[#claimed + 1] = list
        claimed[#claimed + 1] = message
        sequence = sequence + 1
        want = want - 1
        turn = turn + 1
        cursor = cursor + 1
      else
        table.remove(lists, turn)
      end
    end
  end
end
if #kept > 0 then
  call('HSET', unacked, unpack(kept))
  call('ZADD', index, unpack(scores))
  call('HSET', claims, unpack(hold))
end

local next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
return {now, next_due[2] and math.ceil(tonumber(next_due[2])) or -1, cursor % queues, lost, claimed}
