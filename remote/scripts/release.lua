-- release.lua: gives up a lease without storing anything, and tells those who wait.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- ARGV[1] -> lease's field   ARGV[2] -> waiters' field   ARGV[3] -> token   ARGV[4] -> message for each waiter's channel
-- Output: 1 released, 0 it was no longer the caller's
local lease = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[3] then
  return 0
end
local waiters = redis.call('HGET', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[1], ARGV[1], ARGV[2])
for channel in string.gmatch(waiters or '', '%S+') do
  redis.call('PUBLISH', channel, ARGV[4])
end
return 1
