-- The beginning of other scripts: writes ARGV, from an index on, to the keys that it names.
-- Per write: key index, 'S' field-count pairs | 'D' field-count fields | 'R' offset bytes.
local function write(at)
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
end

