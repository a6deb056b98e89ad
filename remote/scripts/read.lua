-- read.lua: reads a value, unless one of its tags was invalidated since it was stored.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- KEYS[2] -> tandem:{cache}:epoch     names the cache; it is not looked at
-- ARGV[1] -> value's field   ARGV[2] -> its tags' field
-- Output: the value; nil if there is none
local found = redis.pcall('HMGET', KEYS[1], ARGV[1], ARGV[2])
if found.err then return found end
local tags = found[1] and tagKeys(found[1], string.sub(KEYS[2], 1, -6))
if tags and not stand(tags, found[2]) then return false end
return found[1]
