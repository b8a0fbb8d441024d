-- Puts back everything fairstalk holds in Redis, for a stock Celery worker. For when fairstalk is gone for good:
-- while one of its workers runs, this would have its tasks run a second time.
--
--   redis-cli --eval put-back.lua                 database 0; another one: redis-cli -n 1 --eval …
--   redis-cli --eval put-back.lua , myprefix      with a global_keyprefix
--
-- Claimed messages go to the front of their lists, delayed ones to the end (a Celery worker keeps their time).
-- What is delivered at most once and had been started becomes a dead letter: it must not run again. Dead letters stay.
-- Claims of stock workers in `unacked` stay.

local call, prefix = redis.call, ARGV[1] or ''
local function key(name) return prefix .. name end

local claimed, delayed, started = 0, 0, 0
local now = tonumber(call('TIME')[1]) * 1000
for _, owner in ipairs(call('ZRANGE', key('fairstalk:owners'), 0, -1)) do
  local claims, held = key('fairstalk:claims:' .. owner), {}
  for _, number in ipairs(call('HKEYS', claims)) do
    if number ~= 'lease' then held[#held + 1] = tonumber(number) end
  end
  table.sort(held, function(a, b) return a > b end) -- the latest first: each goes in front of the one before
  for _, number in ipairs(held) do
    local field = string.format('%d', number)
    local claim = owner .. ':' .. field
    local list, message = string.match(call('HGET', claims, field), '^(%Z*)%z?(.*)$')
    local kept = call('HGET', key('unacked'), claim)
    if message ~= '' then
      local readable, envelope = pcall(cjson.decode, message)
      local headers = readable and type(envelope) == 'table' and envelope.headers
      if type(headers) ~= 'table' then headers = {} end
      call('HSET', key('fairstalk:dead:messages'), claim, message)
      call('HSET', key('fairstalk:dead:entries'), claim, cjson.encode({
        reason = 'at-most-once', detail = 'its worker died while it ran, or just before it began', at = now,
        task = headers.task, id = headers.id, queue = string.match(string.sub(list, #prefix + 1), '^[^\6]*'),
      }))
      call('ZADD', key('fairstalk:dead'), now, claim)
      started = started + 1
    elseif kept then
      local queue = string.match(string.sub(list, #prefix + 1), '^[^\6]*')
      call('RPUSH', list, string.sub(kept, 2, #kept - #queue - 9)) -- out of '[message, "", "queue"]'
      call('HDEL', key('unacked'), claim)
      call('ZREM', key('unacked_index'), claim)
      claimed = claimed + 1
    end
  end
  call('DEL', claims)
end
call('DEL', key('fairstalk:owners'), key('fairstalk:owners:figures'))

for _, claim in ipairs(call('ZRANGE', key('fairstalk:delayed'), 0, -1)) do
  local kept = call('HGET', key('fairstalk:delayed:messages'), claim)
  if kept then
    local cut = string.find(kept, '\0', 1, true)
    call('LPUSH', string.sub(kept, 1, cut - 1), string.sub(kept, cut + 1))
    delayed = delayed + 1
  end
end
call('DEL', key('fairstalk:delayed'), key('fairstalk:delayed:messages'))
return {'claimed', claimed, 'delayed', delayed, 'started', started}
