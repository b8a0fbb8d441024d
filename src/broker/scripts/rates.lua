-- Says which tasks have a limited rate; it holds for the whole fleet until it is said anew. Begins with tenants.lua.
--
-- ARGV  3… task and least time between two of its starts (ms), in turn: all there are
-- Returns 1 if something has changed.
--
-- When a task may start next is not forgotten by it, nor by a restart of everything.

read_bars()
local moved, wanted = 0, {}
for i = 3, #ARGV, 2 do
  local task, interval = ARGV[i], tonumber(ARGV[i + 1])
  local rate = bars.tasks[task]
  wanted[task] = true
  if not rate or math.abs(rate.i - interval) > 0.001 then
    set_bar('task:' .. task, string.format('%.3f %.3f', interval, rate and math.min(rate.z, now + interval) or 0))
    moved = 1
  end
end
for task in pairs(bars.tasks) do
  if not wanted[task] then
    set_bar('task:' .. task, nil)
    moved = 1
  end
end
if moved == 0 then return 0 end
if call('EXISTS', own('bars')) == 1 then call('HSET', tenants_key, 'bars', 1) else call('HDEL', tenants_key, 'bars') end
-- Whoever waits for a start is looked at again by the next steps.
if call('EXISTS', own('throttled')) == 1 then
  call('ZUNIONSTORE', own('throttled'), 1, own('throttled'), 'WEIGHTS', 0)
end
call('SET', ring, now)
return 1
