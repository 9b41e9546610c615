-- Begins a rebuild of one partition: takes the next number, and deletes what the rebuild before it wrote.
-- KEYS: 1 number of the newest rebuild, 2.. all keys that the rebuild ARGV[1] can write.
-- ARGV: 1 number of the newest rebuild as read by the caller (0 for none).
-- Returns the new number, or 0 if another rebuild began meanwhile.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
-- Delete first: an error must not leave a new number with the old keys.
for index = 2, #KEYS do redis.call('UNLINK', KEYS[index]) end
return redis.call('INCR', KEYS[1])
