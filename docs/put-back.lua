-- Puts back everything fairstalk holds in Redis, for a stock Celery worker. For when fairstalk is gone for good:
-- while one of its workers runs, this would have its tasks run a second time.
--
--   redis-cli --eval put-back.lua                 database 0; another one: redis-cli -n 1 --eval …
--   redis-cli --eval put-back.lua , myprefix      with a global_keyprefix
--
-- What waits in lanes goes to the front of its list, in the order of each tenant; before it goes what was claimed, in
-- the order in which it was claimed; delayed messages go to the end (a Celery worker keeps their time).
-- What is delivered at most once and had been started becomes a dead letter: it must not run again. Dead letters stay.
-- Claims of stock workers in `unacked` stay.

local call, prefix = redis.call, ARGV[1] or ''
local function key(name) return prefix .. name end
local function list_of(line) return string.match(line, '^[^\031]*') end

-- Lanes belong to a fleet, the workers that consume the same queues; there may be several. A line is a list, or a list
-- with '\031due' behind it: messages whose time has come, which run before the others; or with '\031rate\031' and a
-- task, which waited for its rate.
local lines, due_lines = {}, {}
for _, tenants_key in ipairs(call('KEYS', key('fairstalk:*:tenants'))) do
  local fleet, tenants = string.sub(tenants_key, 1, -#'tenants' - 1), call('HGETALL', tenants_key)
  for i = 1, #tenants, 2 do
    local flow = tenants[i]
    -- The 13th value is the number of lines, each of which has four, its name first.
    local values = string.find(flow, ':', 1, true) and {cmsgpack.unpack(tenants[i + 1])} or {}
    for at = 14, 13 + 4 * (values[13] or 0), 4 do
      local line = values[at]
      local of = list_of(line) == line and lines or due_lines
      of[#of + 1] = {list = list_of(line), lane = fleet .. 'lane:' .. line .. '\031' .. flow}
    end
  end
  for _, name in ipairs({'tenants', 'ready', 'slots', 'throttled', 'shut'}) do call('DEL', fleet .. name) end
end
local waiting = 0
for _, of in ipairs({lines, due_lines}) do
  for _, place in ipairs(of) do
    local messages = call('LRANGE', place.lane, 0, 999) -- its end first, so that its front comes last, foremost
    while #messages > 0 do
      call('RPUSH', place.list, unpack(messages))
      call('LTRIM', place.lane, #messages, -1)
      waiting = waiting + #messages
      messages = call('LRANGE', place.lane, 0, 999)
    end
  end
end
call('DEL', key('fairstalk:intake'), key('fairstalk:ring'))

local held = {}
for _, owner in ipairs(call('ZRANGE', key('fairstalk:owners'), 0, -1)) do
  local claims = call('HGETALL', key('fairstalk:claims:' .. owner))
  for i = 1, #claims, 2 do
    local line, number, message = string.match(claims[i + 1], '^(.-)%z.-%z.-%z(%d+)%z?(.*)$')
    if claims[i] ~= 'lease' then
      held[#held + 1] =
        {name = owner .. ':' .. claims[i], list = list_of(line), number = tonumber(number), message = message}
    end
  end
  call('DEL', key('fairstalk:claims:' .. owner))
end
table.sort(held, function(a, b) return a.number > b.number end) -- the latest first: each goes in front of the one before
local claimed, started = 0, 0
local now = tonumber(call('TIME')[1]) * 1000
for _, claim in ipairs(held) do
  local kept = call('HGET', key('unacked'), claim.name)
  local queue = string.match(string.sub(claim.list, #prefix + 1), '^[^\6]*')
  if claim.message ~= '' then
    local readable, envelope = pcall(cjson.decode, claim.message)
    local headers = readable and type(envelope) == 'table' and envelope.headers
    if type(headers) ~= 'table' then headers = {} end
    call('HSET', key('fairstalk:dead:messages'), claim.name, claim.message)
    call('HSET', key('fairstalk:dead:entries'), claim.name, cjson.encode({
      reason = 'at-most-once', detail = 'its worker died while it ran, or just before it began', at = now,
      task = headers.task, id = headers.id, queue = queue,
    }))
    call('ZADD', key('fairstalk:dead'), now, claim.name)
    started = started + 1
  elseif kept then
    local escaped = string.gsub(queue, '["\\]', '\\%0')
    call('RPUSH', claim.list, string.sub(kept, 2, #kept - #escaped - 9)) -- out of '[message, "", "queue"]'
    call('HDEL', key('unacked'), claim.name)
    call('ZREM', key('unacked_index'), claim.name)
    claimed = claimed + 1
  end
end
call('DEL', key('fairstalk:owners'), key('fairstalk:owners:figures'))

local delayed = 0
for _, claim in ipairs(call('ZRANGE', key('fairstalk:delayed'), 0, -1)) do
  local kept = call('HGET', key('fairstalk:delayed:messages'), claim)
  if kept then
    local list, message = string.match(kept, '^(.-)%z.-%z(.*)$')
    call('LPUSH', list, message)
    delayed = delayed + 1
  end
end
call('DEL', key('fairstalk:delayed'), key('fairstalk:delayed:messages'))
return {'waiting', waiting, 'claimed', claimed, 'delayed', delayed, 'started', started}
