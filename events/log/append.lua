-- Append one chunk of events to one stream: all of it or nothing, once per chunk id.
-- KEYS: 1 log, 2 subjects, 3 meta, 4 wake, 5 commands, 6 command times.
-- A value of `subjects` is `version:generation`, and `:at` with the document behind it (events/log/subject_record.py).
-- ARGV: 1 chunk id, 2 at (ms), 3 by, 4 cause, 5 fence ('' for none), 6 how long the workers count as woken (ms),
--       7 remember chunk ids since (ms), 8 remember at most, 9 number of events, 10 number of documents, 11 rare members
--       ('' for none); then each member of all events in turn: subjects, types, expected versions, data; then per document
--       after the chunk its subject and its bytes; then the subjects whose documents are deleted.
-- Rare members are a JSON object of lists: `generations` (number of the event, new generation, ...), `guards` (number of the
-- event, guarded subject, its generation, ...) and `commands` (number of the event, id of its command, ...).
-- Answers {'repeated', first position, woke, at}, {'written', ...} alike,
--         {'conflict', subject, version, generation, ...}, or {'fenced', newest fence}.

-- Each argument and each call of a command costs the server 0.2 to 2 µs, and an XADD 3. So all subjects are read by one command
-- and written by one, and what few events have is not an argument of each.
local call, arguments = redis.call, ARGV

-- First, before fence and versions: a chunk that is sent again after a lost answer must get the first answer, although the
-- versions that it expects have passed (docs/decisions/0002).
local seen = call('HGET', KEYS[5], arguments[1])
if seen then
  local first, at = string.match(seen, '^(%d+):%d+:(.+)$')
  return {'repeated', tonumber(first), 0, tonumber(at)}
end

-- Stored with the stream and compared in the same script: a process that slept through the end of its lease cannot know
-- that another one took over, so the stream has to reject it.
local fence = arguments[5]
if fence ~= '' then
  local newest = tonumber(call('HGET', KEYS[3], 'fence') or '0')
  if tonumber(fence) < newest then return {'fenced', newest} end
  call('HSET', KEYS[3], 'fence', fence)
end

-- Lua unpacks about 8,000 values at most; an event can delete more documents than that.
local function by_parts(command, key, values)
  local answers = {}
  for first = 1, #values, 4000 do
    answers[#answers + 1] = call(command, key, unpack(values, first, math.min(first + 3999, #values)))
  end
  return answers
end

local count = tonumber(arguments[9])
local before_subjects = 11
local before_types = before_subjects + count
local before_expected = before_types + count
local before_data = before_expected + count
local before_documents = before_data + count
local before_deleted = before_documents + 2 * tonumber(arguments[10])

local subjects, versions, generations = {}, {}, {}
local function add(subject)
  if versions[subject] == nil then
    versions[subject], generations[subject] = 0, 0
    subjects[#subjects + 1] = subject
  end
end
for index = before_subjects + 1, before_types do add(arguments[index]) end

local new_generations, guarded, guarded_generations, command_ids = {}, {}, {}, {}
if arguments[11] ~= '' then
  local rare = cjson.decode(arguments[11])
  for index = 1, #rare.generations, 2 do new_generations[rare.generations[index]] = rare.generations[index + 1] end
  for index = 1, #rare.guards, 3 do
    local number = rare.guards[index]
    guarded[number], guarded_generations[number] = rare.guards[index + 1], rare.guards[index + 2]
    add(guarded[number])
  end
  for index = 1, #rare.commands, 2 do command_ids[rare.commands[index]] = rare.commands[index + 1] end
end

-- By subject: the document after the chunk, '' for one that is deleted.
local documents = {}
for index = before_documents + 1, before_deleted, 2 do
  add(arguments[index])
  documents[arguments[index]] = arguments[index + 1]
end
for index = before_deleted + 1, #arguments do
  add(arguments[index])
  documents[arguments[index]] = ''
end

local current, stored, number = {}, {}, 0
for _, part in ipairs(by_parts('HMGET', KEYS[2], subjects)) do
  for _, value in ipairs(part) do
    number = number + 1
    local subject = subjects[number]
    if value then
      local version, generation, rest = string.match(value, '^(%d+):(%d+)()')
      versions[subject], generations[subject] = tonumber(version), tonumber(generation)
      stored[subject] = {value, rest}
    end
    current[subject] = {versions[subject], generations[subject]}
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
  local subject = arguments[before_subjects + number]
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
-- noticed by its readers (RedisLog.read), and not continued as if nothing were missing.
local meta = call('HMGET', KEYS[3], 'position', 'at')
local before = tonumber(meta[1] or '0')
local at = arguments[2]
if meta[2] and tonumber(meta[2]) > tonumber(at) then at = meta[2] end
local by, cause = arguments[3], arguments[4]

for number = 1, count do
  call('XADD', KEYS[1], before + number .. '-0', 'type', arguments[before_types + number],
    'subject', arguments[before_subjects + number], 'version', entry_versions[number], 'at', at, 'by', by, 'cause', cause,
    'data', arguments[before_data + number])
end

local written, deleted = {}, {}
for _, subject in ipairs(subjects) do
  local document, before_chunk = documents[subject], current[subject]
  local version, generation = versions[subject], generations[subject]
  -- A subject that is only guarded stays as it is.
  if document ~= nil or version ~= before_chunk[1] or generation ~= before_chunk[2] then
    if document == '' and version == 0 then
      deleted[#deleted + 1] = subject
    else
      local behind = ''
      if document == nil then
        if stored[subject] then behind = string.sub(stored[subject][1], stored[subject][2]) end
      elseif document ~= '' then
        behind = ':' .. at .. document
      end
      written[#written + 1] = subject
      written[#written + 1] = version .. ':' .. generation .. behind
    end
  end
end
by_parts('HSET', KEYS[2], written)
by_parts('HDEL', KEYS[2], deleted)
call('HSET', KEYS[3], 'position', before + count, 'at', at)
-- What the keys of a log hold, and in which form; opening the log compares it (events/log/log_factory.py:FORMAT).
if before == 0 then call('HSET', KEYS[3], 'format', 2) end

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
by_parts('HSET', KEYS[5], remembered)
by_parts('ZADD', KEYS[6], times)

-- Each call forgets at most eight ids more than it adds: the hash shrinks, and no call has to delete thousands.
local forgotten_max = 9 + #ids
local old = call('ZRANGEBYSCORE', KEYS[6], '-inf', '(' .. arguments[7], 'LIMIT', 0, forgotten_max)
if #old == 0 then
  local excess = call('ZCARD', KEYS[6]) - tonumber(arguments[8])
  if excess > 0 then old = call('ZRANGE', KEYS[6], 0, math.min(excess, forgotten_max) - 1) end
end
if #old > 0 then
  call('HDEL', KEYS[5], unpack(old))
  call('ZREM', KEYS[6], unpack(old))
end

-- Followers of the log read on (services/api/context/commit_signals.py). A user without the permission to publish appends as well.
redis.pcall('PUBLISH', KEYS[1], '')

-- In the script that writes the events: a worker that leaves its claim and then reads sees every event whose append found
-- the claim (events/log/claims.py).
local woke = call('SET', KEYS[4], 'woken', 'NX', 'PX', arguments[6]) and 1 or 0
return {'written', before + 1, woke, tonumber(at)}
