-- Append one chunk of events to one stream: all of it or nothing, once per chunk id.
-- KEYS: 1 log, 2 heads, 3 snapshots, 4 meta, 5 wake, 6 commands, 7 command times.
-- ARGV: 1 chunk id, 2 at (ms), 3 by, 4 cause, 5 fence ('' for none), 6 wakes (1: a flag is set, 0: the caller wakes all),
--       7 remember chunk ids since (ms), 8 remember at most, 9 number of events, 10 number of documents, 11 rare members
--       ('' for none); then each member of all events in turn: subjects, types, expected versions, data; then per document
--       after the chunk its subject and its bytes; then the subjects whose documents are deleted.
-- Rare members are a JSON object of lists: `generations` (number of the event, new generation, ...), `guards` (number of the
-- event, guarded subject, its generation, ...) and `commands` (number of the event, id of its command, ...).
-- Answers {'repeated', first position, woke, at}, {'written', ...} alike,
--         {'conflict', subject, version, generation, ...}, or {'fenced', newest fence}.

-- Each argument and each call of a command costs the server 0.2 to 2 µs, and an XADD 3. So all heads are read by one command
-- and all documents are written by one, and what few events have is not an argument of each.
local call, arguments = redis.call, ARGV

-- First, before fence and versions: a chunk that is sent again after a lost answer must get the first answer, although the
-- versions that it expects have passed (docs/decisions/0002).
local seen = call('HGET', KEYS[6], arguments[1])
if seen then
  local first, at = string.match(seen, '^(%d+):%d+:(.+)$')
  return {'repeated', tonumber(first), 0, tonumber(at)}
end

-- Stored with the stream and compared in the same script: a process that slept through the end of its lease cannot know
-- that another one took over, so the stream has to reject it.
local fence = arguments[5]
if fence ~= '' then
  local newest = tonumber(call('HGET', KEYS[4], 'fence') or '0')
  if tonumber(fence) < newest then return {'fenced', newest} end
  call('HSET', KEYS[4], 'fence', fence)
end

local count, document_count = tonumber(arguments[9]), tonumber(arguments[10])
local before_types = 11 + count
local before_expected = before_types + count
local before_data = before_expected + count
local before_documents = before_data + count
local before_deleted = before_documents + 2 * document_count

local subjects = {unpack(arguments, 12, before_types)}
local new_generations, guarded, guarded_generations, command_ids = {}, {}, {}, {}
if arguments[11] ~= '' then
  local rare = cjson.decode(arguments[11])
  for index = 1, #rare.generations, 2 do new_generations[rare.generations[index]] = rare.generations[index + 1] end
  for index = 1, #rare.guards, 3 do
    local number = rare.guards[index]
    guarded[number], guarded_generations[number] = rare.guards[index + 1], rare.guards[index + 2]
    subjects[#subjects + 1] = guarded[number]
  end
  for index = 1, #rare.commands, 2 do command_ids[rare.commands[index]] = rare.commands[index + 1] end
end

local versions, generations, current = {}, {}, {}
local heads = call('HMGET', KEYS[2], unpack(subjects))
for number, subject in ipairs(subjects) do
  if not current[subject] then
    local version, generation = 0, 0
    if heads[number] then
      version, generation = string.match(heads[number], '^(%d+):(%d+)$')
      version, generation = tonumber(version), tonumber(generation)
    end
    versions[subject], generations[subject] = version, generation
    current[subject] = {version, generation}
  end
end

local conflicts, conflicted = {}, {}
local function conflict(subject)
  if not conflicted[subject] then
    conflicted[subject] = true
    conflicts[#conflicts + 1] = subject
  end
end

-- All conditions are checked before the first entry is written: Redis does not roll a script back.
local entry_versions = {}
for number = 1, count do
  local subject = subjects[number]
  local version = versions[subject]
  if version ~= tonumber(arguments[before_expected + number]) then conflict(subject) end
  if guarded[number] and generations[guarded[number]] ~= guarded_generations[number] then conflict(guarded[number]) end
  versions[subject] = version + 1
  if new_generations[number] then generations[subject] = new_generations[number] end
  entry_versions[number] = version + 1
end

if #conflicts > 0 then
  local answer = {'conflict'}
  for _, subject in ipairs(conflicts) do
    answer[#answer + 1] = subject
    answer[#answer + 1] = current[subject][1]
    answer[#answer + 1] = current[subject][2]
  end
  return answer
end

-- The position is counted here and not read from the newest entry: a stream whose last entries were deleted is then
-- noticed by its readers (RedisLog._check_end), and not continued as if nothing were missing.
local meta = call('HMGET', KEYS[4], 'position', 'at')
local before = tonumber(meta[1] or '0')
local at = arguments[2]
if meta[2] and tonumber(meta[2]) > tonumber(at) then at = meta[2] end
local by, cause = arguments[3], arguments[4]

local moved, is_moved = {}, {}
for number = 1, count do
  local subject = subjects[number]
  call('XADD', KEYS[1], before + number .. '-0', 'type', arguments[before_types + number], 'subject', subject,
    'version', entry_versions[number], 'at', at, 'by', by, 'cause', cause, 'data', arguments[before_data + number])
  if not is_moved[subject] then
    is_moved[subject] = true
    moved[#moved + 1] = subject
    moved[#moved + 1] = versions[subject] .. ':' .. generations[subject]
  end
end

-- Lua unpacks about 8,000 values at most; an event can delete more documents than that.
local function write(command, key, values, first, last)
  for start = first, last, 4000 do
    call(command, key, unpack(values, start, math.min(start + 3999, last)))
  end
end

-- AT_APPEND (events/log/port.py); a quote before the colon cannot stand so inside a JSON string. Most documents have none,
-- and a plain search for it costs a tenth of a replacement.
for index = before_documents + 2, before_deleted, 2 do
  if string.find(arguments[index], '_at":9007199254740993', 1, true) then
    arguments[index] = string.gsub(arguments[index], '_at":9007199254740993', '_at":' .. at)
  end
end
write('HSET', KEYS[3], arguments, before_documents + 1, before_deleted)
write('HDEL', KEYS[3], arguments, before_deleted + 1, #arguments)
write('HSET', KEYS[2], moved, 1, #moved)
call('HSET', KEYS[4], 'position', before + count, 'at', at)

-- Of the chunk and of each command: its first position, the number of its events, and their time.
local remembered, times = {arguments[1], before + 1 .. ':' .. count .. ':' .. at}, {at, arguments[1]}
local firsts, counts, ids = {}, {}, {}
for number = 1, count do
  local id = command_ids[number]
  if id then
    if not counts[id] then firsts[id], counts[id], ids[#ids + 1] = before + number, 0, id end
    counts[id] = counts[id] + 1
  end
end
for _, id in ipairs(ids) do
  remembered[#remembered + 1], times[#times + 1] = id, at
  remembered[#remembered + 1], times[#times + 1] = firsts[id] .. ':' .. counts[id] .. ':' .. at, id
end
write('HSET', KEYS[6], remembered, 1, #remembered)
write('ZADD', KEYS[7], times, 1, #times)

-- Each call forgets at most eight ids more than it adds: the hash shrinks, and no call has to delete thousands.
local forgotten_max = 9 + #ids
local old = call('ZRANGEBYSCORE', KEYS[7], '-inf', '(' .. arguments[7], 'LIMIT', 0, forgotten_max)
if #old == 0 then
  local excess = call('ZCARD', KEYS[7]) - tonumber(arguments[8])
  if excess > 0 then old = call('ZRANGE', KEYS[7], 0, math.min(excess, forgotten_max) - 1) end
end
if #old > 0 then
  call('HDEL', KEYS[6], unpack(old))
  call('ZREM', KEYS[7], unpack(old))
end

-- In the script that writes the events: set afterwards, a process killed in between would leave events without a flag.
local woke = 1
if arguments[6] == '1' then woke = call('SETNX', KEYS[5], 1) end
return {'written', before + 1, woke, tonumber(at)}
