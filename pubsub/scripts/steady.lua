-- steady.lua: the heartbeat of an instance that expects nothing new: proves that this server takes writes, is the one of the
-- heartbeat before, holds the versions and registers the instance as it did then, and that what it publishes arrives. Where anything is not as
-- expected it publishes nothing and answers "", and the caller runs beat.lua. It costs half of that.
-- KEYS[1] -> a key that does not exist, see beat.lua   KEYS[2..n] -> the topics' version keys   KEYS[n+1..] -> their registries
-- ARGV[1] -> the instance's private channel   ARGV[2] -> message
-- ARGV[3] -> "master_replid:<id>" and CR, with the replication id of the server that took the heartbeat before
-- ARGV[4] -> n   ARGV[5..n+3] -> what the version keys held then
-- and if there are registries: ARGV[n+4] -> the instance's field there   ARGV[n+5..] -> what it holds in each
-- Output: "<seconds> <microseconds>" of TIME and the lines of INFO replication behind the id's; or ""
redis.call('DEL', KEYS[1])
local info = redis.pcall('INFO', 'replication')
if type(info) ~= 'string' then return '' end
-- A plain search: a pattern that is tried at every byte of INFO costs more than all the commands here.
local _, at = string.find(info, ARGV[3], 1, true)
if not at then return '' end
local last = tonumber(ARGV[4])
for i = 2, last do
  if redis.pcall('GET', KEYS[i]) ~= ARGV[i + 3] then return '' end
end
for i = last + 1, #KEYS do
  if redis.pcall('HGET', KEYS[i], ARGV[last + 4]) ~= ARGV[i + 4] then return '' end
end
local t = redis.call('TIME')
redis.call('PUBLISH', ARGV[1], ARGV[2])
return t[1] .. ' ' .. t[2] .. string.sub(info, at + 1, at + 120)
