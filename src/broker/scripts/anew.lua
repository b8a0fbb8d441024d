-- A living owner takes out its lease once more, with all that it holds, on a server that has lost its data. Begins with
-- tenants.lua.
--
-- ARGV  3 length of the lease, ms   4 number of the owner's connection
--       5… for each claim: sequence number, list, flow or '', '[message, "", "queue"]' or '' if it has only to be
--       settled, and the message once more if its task was started for good, else ''
-- Returns 1; or 0 if anything is left of this owner: then the data is not lost, and nothing was done.

if call('EXISTS', claims) == 1 or call('ZSCORE', owners, owner) then return 0 end
for i = 5, #ARGV, 5 do
  if call('HEXISTS', unacked, owner .. ':' .. ARGV[i]) == 1 then return 0 end
end

-- First what can fail for lack of memory: without its lease an owner can settle nothing.
meet({})
for i = 5, #ARGV, 5 do
  local sequence, list, flow, kept, started = unpack(ARGV, i, i + 4)
  local name = owner .. ':' .. sequence
  -- In front of what is claimed from now on, should it come back.
  number = math.max(number, tonumber(sequence))
  local value = list .. '\0' .. flow .. '\0' .. '0' .. '\0' .. sequence
  if started ~= '' then value = value .. '\0' .. started end
  call('HSET', claims, sequence, value)
  if kept ~= '' then
    call('HSET', unacked, name, kept)
    call('ZADD', index, time[1], name)
  end
  if flow ~= '' then
    meet({flow})
    local tenant = enter(flow)
    tenant.r = tenant.r + 1
  end
end
call('HSET', claims, 'lease', ARGV[4])
call('ZADD', owners, now + tonumber(ARGV[3]), owner)
remember()
return 1
