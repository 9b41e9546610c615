-- Read the heads and the documents of subjects of one stream: in one step, as an append between the two would pair a head with
-- the document of another version.
-- KEYS: 1 heads, 2 snapshots. ARGV: the subjects. Answers {heads, documents}, both in their order.
return {redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('HMGET', KEYS[2], unpack(ARGV))}
