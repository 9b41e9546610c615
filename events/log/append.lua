-- Append one chunk of events to one stream: all of it or nothing, once per chunk id.
-- KEYS: 1 log, 2 subjects, 3 meta, 4 wake, 5 commands, 6 command times.
-- A value of `subjects` is `version:generation`, and `:at` with the document behind it (events/log/subject_record.py).
-- ARGV: 1 chunk id, 2 at (ms), 3 by, 4 cause, 5 fence ('' for none), 6 wakes (1: a flag is set, 0: the caller wakes all),
--       7 remember chunk ids since (ms), 8 remember at most, 9 number of events; then per event:
--       type, subject, expected version, generation ('' to keep), guarded subject ('' for none), guarded generation,
--       data, id of its command ('' for none), number of documents, then per document: subject, document ('' deletes).
-- Answers {'repeated', first position, woke, versions...}, {'written', ...} alike,
--       {'conflict', subject, version, generation, ...}, or {'fenced', newest fence}.

-- First, before fence and versions: a chunk that is sent again after a lost answer must get the first answer, although the
-- versions that it expects have passed (docs/decisions/0002).
local seen = redis.call('HGET', KEYS[5], ARGV[1])
if seen then
  local answer = cjson.decode(seen)
  return {'repeated', answer[1], 0, unpack(answer[2])}
end

-- Stored with the stream and compared in the same script: a process that slept through the end of its lease cannot know
-- that another one took over, so the stream has to reject it.
local fence = ARGV[5]
if fence ~= '' then
  local newest = tonumber(redis.call('HGET', KEYS[3], 'fence') or '0')
  if tonumber(fence) < newest then return {'fenced', newest} end
  redis.call('HSET', KEYS[3], 'fence', fence)
end

local count = tonumber(ARGV[9])
local versions, generations, conflicts, conflicted = {}, {}, {}, {}

-- All subjects are read by one command and written by one: a command that a script calls costs the server 1 to 2 µs, a third
-- of what an event costs it. Lua unpacks about 8,000 values at most; an event can delete more documents than that.
local function by_parts(command, key, arguments)
  local answers = {}
  for first = 1, #arguments, 4000 do
    answers[#answers + 1] = redis.call(command, key, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
  return answers
end

local subjects, index = {}, 10
local function add(subject)
  if versions[subject] == nil then
    versions[subject], generations[subject] = 0, 0
    subjects[#subjects + 1] = subject
  end
end
for _ = 1, count do
  add(ARGV[index + 1])
  if ARGV[index + 4] ~= '' then add(ARGV[index + 4]) end
  local documents = tonumber(ARGV[index + 8])
  for document = 1, documents do add(ARGV[index + 7 + 2 * document]) end
  index = index + 9 + 2 * documents
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

local function conflict(subject)
  if not conflicted[subject] then
    conflicted[subject] = true
    conflicts[#conflicts + 1] = subject
  end
end

-- All conditions are checked before the first entry is written: Redis does not roll a script back.
index = 10
local answer_versions = {}
for number = 1, count do
  local subject = ARGV[index + 1]
  if versions[subject] ~= tonumber(ARGV[index + 2]) then conflict(subject) end
  local guarded = ARGV[index + 4]
  if guarded ~= '' then
    if generations[guarded] ~= tonumber(ARGV[index + 5]) then conflict(guarded) end
  end
  versions[subject] = versions[subject] + 1
  if ARGV[index + 3] ~= '' then generations[subject] = tonumber(ARGV[index + 3]) end
  answer_versions[number] = versions[subject]
  index = index + 9 + 2 * tonumber(ARGV[index + 8])
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
local meta = redis.call('HMGET', KEYS[3], 'position', 'at')
local position = tonumber(meta[1] or '0')
local at = ARGV[2]
if meta[2] and tonumber(meta[2]) > tonumber(at) then at = meta[2] end
local first = position + 1

index = 10
local changed, documents, commands = {}, {}, {[ARGV[1]] = {first, answer_versions}}
for number = 1, count do
  position = position + 1
  local subject = ARGV[index + 1]
  redis.call('XADD', KEYS[1], position .. '-0', 'type', ARGV[index], 'subject', subject,
    'version', answer_versions[number], 'at', at, 'by', ARGV[3], 'cause', ARGV[4], 'data', ARGV[index + 6])
  changed[subject] = true
  local command = ARGV[index + 7]
  if command ~= '' then
    if not commands[command] then commands[command] = {position, {}} end
    table.insert(commands[command][2], answer_versions[number])
  end
  local count_of_documents = tonumber(ARGV[index + 8])
  for document = 1, count_of_documents do
    local owner = ARGV[index + 7 + 2 * document]
    documents[owner] = ARGV[index + 8 + 2 * document]
    changed[owner] = true
  end
  index = index + 9 + 2 * count_of_documents
end

local written, deleted = {}, {}
for subject in pairs(changed) do
  local document = documents[subject]
  if document == '' and versions[subject] == 0 then
    deleted[#deleted + 1] = subject
  else
    local behind = ''
    if document == nil then
      if stored[subject] then behind = string.sub(stored[subject][1], stored[subject][2]) end
    elseif document ~= '' then
      behind = ':' .. at .. document
    end
    written[#written + 1] = subject
    written[#written + 1] = versions[subject] .. ':' .. generations[subject] .. behind
  end
end
by_parts('HSET', KEYS[2], written)
by_parts('HDEL', KEYS[2], deleted)
redis.call('HSET', KEYS[3], 'position', position, 'at', at)

-- Each call forgets at most eight ids more than it adds: the hash shrinks, and no call has to delete thousands.
local forgotten_max = 8
for command, answer in pairs(commands) do
  redis.call('HSET', KEYS[5], command, cjson.encode(answer))
  redis.call('ZADD', KEYS[6], at, command)
  forgotten_max = forgotten_max + 1
end
local old = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', '(' .. ARGV[7], 'LIMIT', 0, forgotten_max)
local excess = redis.call('ZCARD', KEYS[6]) - tonumber(ARGV[8])
if #old == 0 and excess > 0 then old = redis.call('ZRANGE', KEYS[6], 0, math.min(excess, forgotten_max) - 1) end
if #old > 0 then
  redis.call('HDEL', KEYS[5], unpack(old))
  redis.call('ZREM', KEYS[6], unpack(old))
end

-- Followers of the log read on (services/api/context/commit_signals.py). A user without the permission to publish appends as well.
redis.pcall('PUBLISH', KEYS[1], '')

-- In the script that writes the events: set afterwards, a process killed in between would leave events without a flag.
local woke = 1
if ARGV[6] == '1' then woke = redis.call('SETNX', KEYS[4], 1) end
return {'written', first, woke, unpack(answer_versions)}
