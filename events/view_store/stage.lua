-- Write a part of what is rebuilt of one partition beside its views, unless a newer rebuilding has begun.
-- KEYS: 1 number of the newest rebuilding, 2.. the hashes and arrays that are written.
-- ARGV: 1 number of this rebuilding, then per write: key index, 'S' field-count pairs | 'D' field-count fields | 'R' offset bytes.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local at = 2
while ARGV[at] do
  local key = KEYS[tonumber(ARGV[at])]
  local kind = ARGV[at + 1]
  if kind == 'R' then
    redis.call('SETRANGE', key, ARGV[at + 2], ARGV[at + 3])
    at = at + 4
  else
    local fields = tonumber(ARGV[at + 2])
    local first = at + 3
    if kind == 'S' then
      redis.call('HSET', key, unpack(ARGV, first, first + fields * 2 - 1))
      at = first + fields * 2
    else
      redis.call('HDEL', key, unpack(ARGV, first, first + fields - 1))
      at = first + fields
    end
  end
end
return 1
