-- Takes a dead owner's lease away for good and shows what it held. Begins with tenants.lua; the owner is the dead one.
--
-- ARGV  3 at most so many claims
-- Returns {sequence number, list, flow, claim number, '[message, "", "queue"]', …}, the latest claims; NUL and the
-- message in the last place where the task was started for good (start.lua). When nothing is
-- left the owner is forgotten. Until then its score stays 0, so that it is found again should the recovering worker
-- die too.

call('HDEL', claims, 'lease')
call('ZADD', owners, 0, owner)
local held = call('HGETALL', claims)
local sequences, values = {}, {}
for i = 1, #held, 2 do
  sequences[#sequences + 1] = held[i]
  values[held[i]] = held[i + 1]
end
table.sort(sequences, function(one, other) return tonumber(one) > tonumber(other) end)
local answer = {}
for _, sequence in ipairs(sequences) do
  if #answer == 5 * tonumber(ARGV[3]) then break end
  local line, flow, _, claimed, message = parts_of(values[sequence])
  local kept = was_started(values[sequence]) and '\0' .. message or call('HGET', unacked, owner .. ':' .. sequence)
  if kept then
    for _, part in ipairs({sequence, list_of(line), flow, claimed, kept}) do answer[#answer + 1] = part end
  else
    -- A stock worker has restored it after its visibility timeout.
    meet({flow})
    release({parts_of(values[sequence])}, flow, -1)
    local tenant = tenants[flow]
    if tenant and tenant.h == owner then tenant.h = nil end
    call('HDEL', claims, sequence)
  end
end
remember()
if #answer == 0 then
  call('ZREM', owners, owner)
  call('HDEL', figures, owner)
  call('HDEL', own('slots'), owner)
end
return answer
