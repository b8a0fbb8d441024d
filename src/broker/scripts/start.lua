-- Notes that tasks which are delivered at most once are about to start. From here on their messages are no longer in
-- `unacked`, where kombu would restore them after its visibility timeout, but with the claim itself: whoever recovers it
-- finds the message there, and knows that it must not be run again. Until it has ended it is in this place only.
-- Begins with tenants.lua.
--
-- ARGV  3 number of the owner's connection   4… per claim: sequence number, message
-- Returns {sequence numbers that may start}, or {-1} if the lease is lost; then nothing was done. A number that was noted
-- before, and whose answer did not arrive, may start. One that is no longer held may not.

if call('HGET', claims, 'lease') ~= ARGV[3] then return {-1} end
local may = {}
for i = 4, #ARGV, 2 do
  local sequence, claim = ARGV[i], owner .. ':' .. ARGV[i]
  local value = call('HGET', claims, sequence)
  if value and was_started(value) then
    may[#may + 1] = tonumber(sequence)
  elseif value and call('HEXISTS', unacked, claim) == 1 then
    call('HSET', claims, sequence, value .. '\0' .. ARGV[i + 1]) -- first: it is what can fail, for lack of memory
    call('HDEL', unacked, claim)
    call('ZREM', index, claim)
    may[#may + 1] = tonumber(sequence)
  elseif value then
    -- A stock worker has restored it after its visibility timeout.
    local parts = {parts_of(value)}
    meet({parts[2]})
    release(parts, parts[2], -1)
    call('HDEL', claims, sequence)
  end
end
remember()
return may
