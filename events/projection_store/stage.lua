-- Write a part of what is rebuilt of one partition beside its projections, unless a newer rebuilding has begun.
-- KEYS: 1 number of the newest rebuilding, 2.. the hashes and arrays that are written.
-- ARGV: 1 number of this rebuilding, then the writes (write.lua).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
write(2)
return 1
