-- invalidate_tags.lua: invalidates the entries that have one of these tags, refuses every fill of one that began before, and
-- publishes the message, as one step.
-- KEYS[1] -> tandem:{cache}:epoch      names the cache; it is not looked at
-- KEYS[2..] -> tandem:{cache}:t:<tag>  STRING, a version
-- ARGV[1] -> channel   ARGV[2] -> message
-- ARGV[3] -> 16 random hex digits, in case there is no counter   ARGV[4] -> its TTL in ms
-- Output: 1
-- Deleting first: it needs no memory, and a version that is not there agrees with nothing.
redis.call('UNLINK', unpack(KEYS, 2))
local prefix = string.sub(KEYS[1], 1, -6)
local id, n = counter(prefix)
count(prefix, id or ARGV[3], (n or 0) + 1, ARGV[4])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
