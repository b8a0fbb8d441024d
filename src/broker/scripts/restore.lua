-- Puts back what dead stock workers held, to the fronts of the lists, as kombu does (`kombu/transport/redis.py`,
-- `restore_by_tag`). Begins with tenants.lua.
--
-- ARGV  3 visibility timeout, s   4 holder of `unacked_mutex` that is dead, or ''
--      then for each: claim, list, message (empty: there is none any more)
-- Returns how many messages were put back. What has been settled, or restored and claimed anew meanwhile, is left alone.

local restored, oldest = 0, time[1] - tonumber(ARGV[3])
if (call('GET', prefix .. 'unacked_mutex') or ARGV[4]) ~= ARGV[4] then return 0 end
for at = 5, #ARGV, 3 do
  local name, list, message = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local since = tonumber(call('ZSCORE', index, name) or '')
  if since and since <= oldest then
    call('ZREM', index, name)
    if call('HDEL', unacked, name) == 1 and message ~= '' then
      call('RPUSH', list, message)
      restored = restored + 1
    end
  end
end
return restored
