-- Remove the entries of a stream up to a position, if segments have them: all of them or none.
-- KEYS: 1 stream, 2 its archive hash, 3 its holders. ARGV: 1 trimmed so far, 2 the last position to remove.
-- Returns '=trimmed', '=moved' if the stream is trimmed to another position or not archived so far, or the name of a holder.
local upto = tonumber(ARGV[2])
if tonumber(redis.call('HGET', KEYS[2], 'trimmed') or '0') ~= tonumber(ARGV[1]) then return '=moved' end
if tonumber(redis.call('HGET', KEYS[2], 'written') or '0') < upto then return '=moved' end
-- Read in this script: a holder that registers after the mover looked must not lose what it needs.
local holders = redis.call('HGETALL', KEYS[3])
for index = 1, #holders, 2 do
  if tonumber(holders[index + 1]) < upto then return holders[index] end
end
-- The newest entry stays, so that the head of the stream can be read without the archive.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not newest or tonumber(string.match(newest[1], '^%d+')) <= upto then return '=moved' end
redis.call('XTRIM', KEYS[1], 'MINID', '=', (upto + 1) .. '-0')
redis.call('HSET', KEYS[2], 'trimmed', upto)
return '=trimmed'
