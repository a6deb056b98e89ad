-- fill.lua: stores what the lease's holder has loaded, if the lease is still its own, and tells those who wait.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- KEYS[2] -> tandem:{cache}:epoch     STRING, the epoch in 16 hex digits, ":", and what the heartbeat notes there
-- ARGV[1] -> value's field   ARGV[2] -> lease's field   ARGV[3] -> waiters' field
-- ARGV[4] -> token   ARGV[5] -> envelope   ARGV[6] -> TTL in ms, > 0
-- ARGV[7] -> the epoch that the load began in   ARGV[8] -> message for each waiter's channel
-- ARGV[9] -> "1": others share the lease, and it stays for them
-- ARGV[10] -> what the counter of tags said when the load began, if the envelope tells tags
-- Output: 1 stored, 0 refused (an invalidation came between, or the lease was lost)
local lease = redis.pcall('HGET', KEYS[1], ARGV[2])
if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[4] then
  return 0
end
local stored = 0
local epoch = redis.pcall('GET', KEYS[2])
if type(epoch) == 'string' and string.sub(epoch, 1, 17) == ARGV[7] .. ':' then
  -- The store comes before every other write, but for versions of tags: a Redis that is out of memory refuses it only as a
  -- script's first write.
  local prefix = string.sub(KEYS[2], 1, -6)
  local tags = tagKeys(ARGV[5], prefix)
  if not tags or #tags == 0 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
    stored = 1
  else
    local id, n = counter(prefix)
    local versions = id and settle(tags, prefix, id, n, ARGV[10] or '', ARGV[6])
    if versions then
      redis.call('HSET', KEYS[1], ARGV[1], ARGV[5], ARGV[1] .. '.t', versions)
      stored = 1
    end
  end
end
local waiters = redis.call('HGET', KEYS[1], ARGV[3])
if ARGV[9] ~= '1' then
  redis.call('HDEL', KEYS[1], ARGV[3], ARGV[2])
elseif waiters then
  redis.call('HDEL', KEYS[1], ARGV[3])
end
-- A key that is refreshed never expires, and nor would what programs with other codecs or types have stored in it: those of a
-- rolling deployment may stay beside one another, those of many may not.
if stored == 1 and redis.call('HLEN', KEYS[1]) > 16 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, #ARGV[1]) ~= ARGV[1] then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
if stored == 1 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[6]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
-- Those who wait are told in both cases: after an invalidation there is nothing for them, and one of them gets the lease.
for channel in string.gmatch(waiters or '', '%S+') do
  redis.call('PUBLISH', channel, ARGV[8])
end
return stored
