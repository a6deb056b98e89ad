-- renew.lua: extends a lease that is still the caller's. One that was deleted stays deleted: to bring it back would let a
-- load that began before an invalidation store its result after it.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- ARGV[1] -> lease's field   ARGV[2] -> token   ARGV[3] -> lease's TTL in ms
-- Output: 1 extended, 0 no longer the caller's
local lease = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[2] then
  return 0
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%013d:%s', now + ARGV[3], ARGV[2]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
