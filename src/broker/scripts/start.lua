-- Notes that tasks which are delivered at most once are about to start. From here on their messages are no longer in
-- `unacked`, where kombu would restore them after its visibility timeout, but with the claim itself: whoever recovers it
-- finds the message there, and knows that it must not be run again. Until it has ended it is in this place only.
--
-- KEYS  1 unacked   2 unacked_index   3 claims of this owner (hash: sequence number -> list, then NUL and message if started)
-- ARGV  1 owner   2 number of the owner's connection   3… per claim: sequence number, message
-- Returns {sequence numbers that may start}, or {-1} if the lease is lost; then nothing was done. A number that was noted
-- before, and whose answer did not arrive, may start. One that is no longer held may not.

local call = redis.call
if call('HGET', KEYS[3], 'lease') ~= ARGV[2] then return {-1} end
local may = {}
for i = 3, #ARGV, 2 do
  local number, claim = ARGV[i], ARGV[1] .. ':' .. ARGV[i]
  local list = call('HGET', KEYS[3], number)
  if list and string.find(list, '\0', 1, true) then
    may[#may + 1] = tonumber(number)
  elseif list and call('HEXISTS', KEYS[1], claim) == 1 then
    call('HSET', KEYS[3], number, list .. '\0' .. ARGV[i + 1]) -- first: it is what can fail, for lack of memory
    call('HDEL', KEYS[1], claim)
    call('ZREM', KEYS[2], claim)
    may[#may + 1] = tonumber(number)
  elseif list then
    call('HDEL', KEYS[3], number) -- a stock worker has restored it after its visibility timeout
  end
end
return may
