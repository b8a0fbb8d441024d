-- Claims in kombu's books that nobody has renewed for so long: of stock workers that died. Begins with tenants.lua.
-- Changes nothing.
--
-- ARGV  3 visibility timeout, s   4 how many to pass over   5 holder of `unacked_mutex` that is dead, or ''
-- Returns {how many to pass over next time or -1, claim, '[message, exchange, routing key]', …}. While a stock worker is
-- restoring (it holds `unacked_mutex` then) there are none.

local LOOK = 100
if (call('GET', prefix .. 'unacked_mutex') or ARGV[5]) ~= ARGV[5] then return {-1} end
local from = tonumber(ARGV[4])
local found = call('ZRANGEBYSCORE', index, '-inf', time[1] - tonumber(ARGV[3]), 'LIMIT', from, LOOK)
local answer = {#found == LOOK and from + LOOK or -1}
for _, name in ipairs(found) do
  -- Claims of fairstalk go back with their owner.
  local whose = string.match(name, '^(.*):%d+$')
  if not whose or call('EXISTS', own('claims:' .. whose)) == 0 then
    answer[#answer + 1] = name
    answer[#answer + 1] = call('HGET', unacked, name) or ''
  end
end
return answer
