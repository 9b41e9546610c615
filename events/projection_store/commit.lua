-- Commits one partition, everything or nothing, if the checkpoint is still the expected one.
-- KEYS[1] checkpoint, KEYS[2] assignment changes, KEYS[3..] the hashes and arrays to write.
-- ARGV[1] expected checkpoint ('' for none), ARGV[2] new checkpoint,
-- ARGV[3] number of assignment change arguments (0, or 1 + field/value pairs), then the stream id and the pairs, `recorded` last,
-- then the writes (write.lua).
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return 0 end
local at = 4
local count = tonumber(ARGV[3])
if count > 0 then
  local last = at + count - 1
  if ARGV[last - 1] == 'recorded' then
    -- Clocks of workers differ and can go back; the times of a stream must not, as they are searched by halves
    -- (decisions/0029). The newest entry never leaves Redis, so the time before this one is always here.
    local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
    local previous = '0'
    for index = 1, newest and #newest[2] or 0, 2 do
      local name = newest[2][index]
      if name == 'at' or name == 'recorded' then previous = newest[2][index + 1] end
    end
    if tonumber(previous) > tonumber(ARGV[last]) then ARGV[last] = previous end
  end
  redis.call('XADD', KEYS[2], unpack(ARGV, at, at + count - 1))
  at = at + count
end
write(at)
redis.call('SET', KEYS[1], ARGV[2])
-- The API's processes read on (services/api/context/commit_signals.py). A user without the permission to publish commits as well.
redis.pcall('PUBLISH', KEYS[2], '')
return 1
