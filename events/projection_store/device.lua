-- Reads what is stored of one device, atomically and in one round trip.
-- KEYS: 1 checkpoint, 2 ordinals, 3 assignment_of, 4 moved_by, 5 assignments, 6 configurations, 7 assignment changes,
-- 8 time and cause of archived assignment changes, 9 hand_written, 10 delivered_of.
-- ARGV: 1 device id.
-- Returns an empty list if the device is unknown; else checkpoint, ordinal, assignment ('' for none), position of its assignment
-- change, configuration ('' for none), time and cause of the assignment change as in '17 fleet:3' ('' if not in Redis), the
-- configuration of the device's own twin ('' for none), how often its desired properties were written by hand, and the field of
-- `deliveries` for it.
local ordinal = redis.call('HGET', KEYS[2], ARGV[1])
if not ordinal then return {} end

local function number(key)
  local at = tonumber(ordinal) * 4
  local data = redis.call('GETRANGE', key, at, at + 3)
  if #data < 4 then return 0 end
  local a, b, c, d = string.byte(data, 1, 4)
  return a + b * 256 + c * 65536 + d * 16777216
end

local assignment, digest, configuration, own = '', '', '', ''
local assignment_number, assignment_change = number(KEYS[3]), number(KEYS[4])
if assignment_number > 0 then
  assignment = redis.call('HGET', KEYS[5], tostring(assignment_number))
  digest = string.match(assignment, '"configuration":"(%x+)"')
  configuration = redis.call('HGET', KEYS[6], digest) or ''
  -- Cut off the parts of modules, which come last: a module can be called own.
  digest = string.match(string.match(assignment, '^(.-),"modules":{') or assignment, '"own":{"configuration":"(%x+)"')
  if digest then own = redis.call('HGET', KEYS[6], digest) or '' end
end
local time_and_cause = ''
if assignment_change > 0 then
  local entry = redis.call('XRANGE', KEYS[7], assignment_change .. '-0', assignment_change .. '-0')[1]
  if entry then
    local at, cause
    for index = 1, #entry[2], 2 do
      if entry[2][index] == 'at' then at = entry[2][index + 1] end
      if entry[2][index] == 'cause' then cause = entry[2][index + 1] end
    end
    time_and_cause = at .. ' ' .. cause
  else
    time_and_cause = redis.call('HGET', KEYS[8], tostring(assignment_change)) or ''
  end
end
return {redis.call('GET', KEYS[1]), ordinal, assignment, assignment_change, configuration, time_and_cause, own, number(KEYS[9]), number(KEYS[10])}
