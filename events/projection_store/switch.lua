-- Replaces the live projections of one partition by the rebuilt ones, all at once, if they are still those that the caller read.
-- KEYS: 1 number of the newest rebuild, 2 checkpoint, 3 assignment changes, then pairs: live key, rebuilt key.
-- ARGV: 1 number of this rebuild, 2 checkpoint as read by the caller ('' for none), 3 position of the newest assignment change
--       (0 for none), 4 the new checkpoint.
-- Returns 'switched', 'moved' if a commit came in between, or 'superseded' if a newer rebuild began.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'superseded' end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 'moved' end
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local position = newest and string.match(newest[1], '^(%d+)') or '0'
if position ~= ARGV[3] then return 'moved' end
for index = 4, #KEYS, 2 do
  redis.call('UNLINK', KEYS[index])
  if redis.call('EXISTS', KEYS[index + 1]) == 1 then redis.call('RENAME', KEYS[index + 1], KEYS[index]) end
end
redis.call('SET', KEYS[2], ARGV[4])
return 'switched'
