-- Writes a part of a rebuilt partition beside the live projections, unless a newer rebuild began.
-- KEYS: 1 number of the newest rebuild, 2.. the hashes and arrays to write.
-- ARGV: 1 number of this rebuild, then the writes (write.lua).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
write(2)
return 1
