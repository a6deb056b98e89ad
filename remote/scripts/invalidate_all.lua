-- invalidate_all.lua: starts a new epoch, which invalidates every entry and refuses every fill of the old one, and says so.
-- KEYS[1] -> tandem:{cache}:epoch   STRING, the epoch in 16 hex digits, ":", and what the heartbeat notes there, which stays
-- ARGV[1] -> a random epoch   ARGV[2] -> its TTL in ms   ARGV[3] -> channel   ARGV[4] -> message
-- Output: 1
local stored = redis.pcall('GET', KEYS[1])
local note = type(stored) == 'string' and string.match(stored, '^[0-9a-f]+(:[0-9a-f]*[=+]%d*)$') or ':+'
-- Deleting first: it needs no memory, and an absent epoch agrees with nothing.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1] .. note, 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
