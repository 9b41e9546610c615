-- Append a seal, if it follows the newest seal and no process with a newer fence seals.
-- KEYS: 1 seals, 2 sealing (fence, digest, clock).
-- ARGV: 1 number, 2 digest of the seal before, 3 digest, 4 fence, 5 body, 6 signature, 7 the sealer's clock.
-- Answers {'sealed'}, {'fenced', newest fence}, or {'moved', newest number}.
local newest = tonumber(redis.call('HGET', KEYS[2], 'fence') or '0')
if tonumber(ARGV[4]) < newest then return {'fenced', newest} end
redis.call('HSET', KEYS[2], 'fence', ARGV[4])

local number = 0
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] then number = tonumber(string.match(last[1][1], '^(%d+)')) end
local digest = redis.call('HGET', KEYS[2], 'digest')
-- After Redis lost seals, the next seal follows the newest one in the archive. The gap stays, so that verification reports it.
if number >= tonumber(ARGV[1]) then return {'moved', number} end
if number == tonumber(ARGV[1]) - 1 and digest and digest ~= ARGV[2] then return {'moved', number} end

redis.call('XADD', KEYS[1], ARGV[1] .. '-0', 'body', ARGV[5], 'signature', ARGV[6])
redis.call('HSET', KEYS[2], 'digest', ARGV[3], 'clock', ARGV[7])
return {'sealed'}
