-- invalidate.lua: deletes entries, their leases with them, and publishes the message, as one step: no instance can see the
-- message without the change or the change without the message, and all see messages in the order of the changes.
-- KEYS    -> tandem:{cache}:k:<key>   HASH, one or more
-- ARGV[1] -> channel   ARGV[2] -> message
-- Output: how many keys there were
local n = redis.call('UNLINK', unpack(KEYS))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return n
