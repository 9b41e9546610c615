-- Stores a webhook's progress, if the caller still has its lease.
-- KEYS: lease, progress, counts, deliveries
-- ARGV: token, lease ms, webhook, progress, delivery (or ''), result, deliveries to keep
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HINCRBY', KEYS[3], ARGV[3] .. ':' .. ARGV[6], 1)
  redis.call('XADD', KEYS[4], 'MAXLEN', ARGV[7], '*', 'data', ARGV[5])
end
return 1
