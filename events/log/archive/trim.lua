-- Take the entries of a stream out that segments have, up to a position; all of it or nothing.
-- KEYS: 1 stream, 2 its archive hash, 3 its holders. ARGV: 1 trimmed so far, 2 the last position to take out.
-- Answers '=trimmed', '=moved' where it is trimmed otherwise or not written so far, or the name of a holder in the way.
local upto = tonumber(ARGV[2])
if tonumber(redis.call('HGET', KEYS[2], 'trimmed') or '0') ~= tonumber(ARGV[1]) then return '=moved' end
if tonumber(redis.call('HGET', KEYS[2], 'written') or '0') < upto then return '=moved' end
local holders = redis.call('HGETALL', KEYS[3])
for index = 1, #holders, 2 do
  if tonumber(holders[index + 1]) < upto then return holders[index] end
end
-- The newest entry stays: it says where the stream ends.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not newest or tonumber(string.match(newest[1], '^%d+')) <= upto then return '=moved' end
redis.call('XTRIM', KEYS[1], 'MINID', '=', (upto + 1) .. '-0')
redis.call('HSET', KEYS[2], 'trimmed', upto)
return '=trimmed'
