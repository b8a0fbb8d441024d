-- Takes a dead owner's lease away for good and shows what it held.
--
-- KEYS  1 unacked   2 claims of the dead owner   3 owners   4 owner figures
-- ARGV  1 dead owner   2 at most so many claims
-- Returns {sequence number, list, '[message, "", "queue"]', …}, or NUL and the message in the third place where the task
-- was started for good (start.lua); the latest claims: each lot goes in front of the one
-- before, so the earliest have to come last. When nothing is left the owner is forgotten.
-- Until then its score stays 0, so that it is found again should the recovering worker die too.

local call = redis.call
call('HDEL', KEYS[2], 'lease')
call('ZADD', KEYS[3], 0, ARGV[1])
local held = call('HGETALL', KEYS[2])
local numbers, lists = {}, {}
for i = 1, #held, 2 do
  numbers[#numbers + 1] = held[i]
  lists[held[i]] = held[i + 1]
end
table.sort(numbers, function(one, other) return tonumber(one) > tonumber(other) end)
local answer = {}
for _, number in ipairs(numbers) do
  if #answer == 3 * tonumber(ARGV[2]) then break end
  local list, message = string.match(lists[number], '^(%Z*)(.*)$')
  local kept = message ~= '' and message or call('HGET', KEYS[1], ARGV[1] .. ':' .. number)
  if kept then
    for _, part in ipairs({number, list, kept}) do answer[#answer + 1] = part end
  else
    call('HDEL', KEYS[2], number) -- a stock worker has restored it after its visibility timeout
  end
end
if #answer == 0 then
  call('ZREM', KEYS[3], ARGV[1])
  call('HDEL', KEYS[4], ARGV[1])
end
return answer
