-- beat.lua: proves that this server takes writes and that what it publishes arrives, and reports the topics' versions.
-- KEYS[1]  -> a key that does not exist: deleting it is a write that needs no memory, so a replica, a demoted master and an
--             isolated one (min-replicas-to-write) refuse it, and a full one does not
-- KEYS[2..] -> the topics' version keys, STRING
-- ARGV[1] -> the instance's private channel   ARGV[2] -> message
-- ARGV[3] -> a random version, for keys that have none   ARGV[4] -> their TTL in ms
-- Output: {now in ms, version of KEYS[2], version of KEYS[3], ...}
redis.call('DEL', KEYS[1])
local t = redis.call('TIME')
local out = {t[1] * 1000 + math.floor(t[2] / 1000)}
for i = 2, #KEYS do
  local version = redis.pcall('GET', KEYS[i])
  if type(version) ~= 'string' or #version ~= 16 or string.find(version, '[^0-9a-f]') then
    redis.call('DEL', KEYS[i])
    redis.call('SET', KEYS[i], ARGV[3], 'PX', ARGV[4])
    version = ARGV[3]
  else
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
  end
  out[i] = version
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return out
