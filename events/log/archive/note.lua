-- Add a segment to those of a stream, directly after the last one.
-- KEYS: 1 the stream's archive hash. ARGV: 1 first position, 2 last position, 3 field, 4 segment (JSON).
-- Returns 1, or 0 if another process has added a segment there. So of two movers at once, one is recorded.
local written = tonumber(redis.call('HGET', KEYS[1], 'written') or '0')
if written + 1 ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4], 'written', ARGV[2])
return 1
