-- Begin a rebuilding of one partition: the next number, and nothing left of what the one before it had written.
-- KEYS: 1 number of the newest rebuilding, 2.. all that the one of ARGV[1] writes.
-- ARGV: 1 number of the newest rebuilding as it was seen (0 for none).
-- Answers the number, or 0 where another has begun meanwhile.
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
-- First what may be refused: an error must not leave a number without the clearing.
for index = 2, #KEYS do redis.call('UNLINK', KEYS[index]) end
return redis.call('INCR', KEYS[1])
