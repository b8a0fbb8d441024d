-- Puts back everything fairstalk holds in Redis, for a stock Celery worker. For when fairstalk is gone for good:
-- while one of its workers runs, this would have its tasks run a second time.
--
--   redis-cli --eval put-back.lua                 database 0; another one: redis-cli -n 1 --eval …
--   redis-cli --eval put-back.lua , myprefix      with a global_keyprefix
--
-- Claimed messages go to the front of their lists, delayed ones to the end (a Celery worker keeps their time).
-- Dead letters stay. Claims of stock workers in `unacked` stay.

local call, prefix = redis.call, ARGV[1] or ''
local function key(name) return prefix .. name end

local claimed, delayed = 0, 0
for _, owner in ipairs(call('ZRANGE', key('fairstalk:owners'), 0, -1)) do
  local claims, held = key('fairstalk:claims:' .. owner), {}
  for _, number in ipairs(call('HKEYS', claims)) do
    if number ~= 'lease' then held[#held + 1] = tonumber(number) end
  end
  table.sort(held, function(a, b) return a > b end) -- the latest first: each goes in front of the one before
  for _, number in ipairs(held) do
    local field = string.format('%d', number)
    local list, claim = call('HGET', claims, field), owner .. ':' .. field
    local kept = call('HGET', key('unacked'), claim)
    if kept then
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
return {'claimed', claimed, 'delayed', delayed}
