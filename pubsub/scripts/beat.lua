-- beat.lua: proves that this server takes writes and that what it publishes arrives, and reports the topics' versions, which
-- it replaces where this server may have lost writes.
-- KEYS[1] -> a key that does not exist: deleting it is a write that needs no memory, so a replica, a demoted master and an
--             isolated one (min-replicas-to-write) refuse it, and a full one does not
-- KEYS[2..n+1] -> the topics' version keys, STRING "<16 hex digits>:<replication id that it stands under><mark><ms>"; the mark is
--             "+" for a version made under this id, "=" for one that was taken over from the id before, at that time
-- KEYS[n+2..] -> the topics' registries, HASH of the instances that hear them, see ask.lua
-- ARGV[1] -> the instance's private channel   ARGV[2] -> message
-- ARGV[3] -> a random version, for keys that need one   ARGV[4] -> their TTL in ms
-- ARGV[5] -> replication id of the server that took this instance's last heartbeat, "" if unknown
-- ARGV[6] -> that server's replication offset then   ARGV[7] -> its run id   ARGV[8] -> how long ago it was sent, in ms
-- ARGV[9] -> message for the channel of a topic whose version is replaced   ARGV[10] -> n, the number of topics
-- ARGV[11..n+10] -> the topics' channels
-- and if there are registries: ARGV[n+11] -> the instance's field there   ARGV[n+12] -> what to write into it where needed
-- ARGV[n+13..] -> what it wrote last into each, "" if nothing
-- Output: {now in ms, replication id or "", replication offset, run id, 1 if this is the server of ARGV[5] with another id,
--          what KEYS[2] holds, what KEYS[3] holds, ..., for each registry 1 if the instance was still there, 0 if not}
redis.call('DEL', KEYS[1])
local t = redis.call('TIME')
-- A server that does not tell (an ACL, a proxy) is taken as it is.
local info = redis.pcall('INFO', 'replication')
if type(info) ~= 'string' then info = '' end
local id = string.match(info, 'master_replid:([0-9a-f]+)\r') or ''
local offset = tonumber(string.match(info, 'master_repl_offset:(%d+)') or '') or 0

-- Whether the server goes on where the one before it ended, and has everything that it had at this instance's last heartbeat:
-- a promoted replica does, if the stream had come that far; a restart from an old snapshot does not, nor an empty one.
-- Whether it is the same process, which makes a new id, with none before it, when its first replica comes.
local follows, same, run = false, false, ARGV[7]
if id ~= '' and id ~= ARGV[5] then
  local server = redis.pcall('INFO', 'server')
  run = type(server) == 'string' and string.match(server, 'run_id:(%x+)') or ''
  local former = string.match(info, 'master_replid2:(%x+)') or ''
  if former == ARGV[5] then
    follows = (tonumber(string.match(info, 'second_repl_offset:(%-?%d+)') or '') or -1) > tonumber(ARGV[6])
  elseif run ~= '' and run == ARGV[7] then
    same = string.find(former, '^0+$') ~= nil
  end
end

-- Whether this instance has nothing to object to what others found here before it: it knows no other server, or everything
-- of it is here.
local agrees = ARGV[5] == '' or ARGV[5] == id or follows or same

local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {now, id, offset, run, same and 1 or 0}
local topics = tonumber(ARGV[10])
for i = 2, topics + 1 do
  local version, under, mark, made
  local stored = redis.pcall('GET', KEYS[i])
  if type(stored) == 'string' then
    version, under, mark, made = string.match(stored, '^([0-9a-f]+):([0-9a-f]*)([=+])(%d*)$')
  end
  made = tonumber(made or '') or 0
  local lost, moved = false, false
  if not version or #version ~= 16 then
    version = nil
  elseif id ~= '' then
    if under == '' and (ARGV[5] == '' or ARGV[5] == id) then
      moved, mark, made = true, '+', 0 -- made by another script, which does not know the id
    elseif under ~= id then
      moved = under == ARGV[5] and (follows or same)
      lost = not moved
      if follows then mark, made = '=', now end
    elseif not agrees then
      -- Another instance, whose last heartbeat was earlier than ours, found that nothing it knew of was lost; or made the
      -- version, and what was confirmed to us since, elsewhere, is missing here.
      lost = mark == '=' or now - made >= tonumber(ARGV[8])
    end
  end
  if lost or not version then
    version, mark, made, stored = ARGV[3], '+', now, nil
    redis.call('DEL', KEYS[i])
    if lost then
      redis.call('PUBLISH', ARGV[9 + i], ARGV[9])
    end
  end
  if moved or not stored then
    stored = string.format('%s:%s%s%.0f', version, id, mark, made)
    redis.call('SET', KEYS[i], stored, 'PX', ARGV[4])
  else
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
  end
  out[4 + i] = stored
end
-- Before the message, so that whoever has proof is registered. A full Redis does not refuse it: a script that has written, as
-- the DEL above, may go on to. A registry of 2,000, most of whom must have died, begins anew, as ask.lua reads all of it.
for i = topics + 2, #KEYS do
  local held = redis.pcall('HGET', KEYS[i], ARGV[topics + 11])
  if type(held) == 'table' then redis.call('DEL', KEYS[i]) end
  local there = held and held == ARGV[i + 11]
  if not there then
    if redis.call('HLEN', KEYS[i]) >= 2000 then redis.call('UNLINK', KEYS[i]) end
    redis.call('HSET', KEYS[i], ARGV[topics + 11], ARGV[topics + 12])
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[4])
  out[4 + i] = there and 1 or 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return out
