-- set.lua: invalidates an entry as invalidate.lua does, and stores a new value in its place.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- KEYS[2] -> tandem:{cache}:epoch     STRING, the epoch in 16 hex digits, ":", and what the heartbeat notes there
-- ARGV[1] -> channel   ARGV[2] -> message
-- ARGV[3] -> value's field   ARGV[4] -> envelope   ARGV[5] -> TTL in ms, > 0
-- ARGV[6] -> the epoch that the envelope carries
-- ARGV[7] -> the latest time to store at, in ms: a script that was delayed longer than its caller waited only invalidates
-- ARGV[8] -> 16 random hex digits, in case there is no counter of tags, if the envelope tells tags
-- ARGV[9] -> the counter's TTL in ms then
-- Output: 1 stored, 0 only invalidated
redis.call('UNLINK', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
local t = redis.call('TIME')
if t[1] * 1000 + math.floor(t[2] / 1000) > tonumber(ARGV[7]) then
  return 0
end
local epoch = redis.pcall('GET', KEYS[2])
if type(epoch) ~= 'string' or string.sub(epoch, 1, 17) ~= ARGV[6] .. ':' then
  return 0
end
local prefix = string.sub(KEYS[2], 1, -6)
local tags = tagKeys(ARGV[4], prefix)
if not tags or #tags == 0 then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
else
  local id, n = counter(prefix)
  if not id then
    id, n = ARGV[8], 0
    count(prefix, id, n, ARGV[9])
  end
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4], ARGV[3] .. '.t', settle(tags, prefix, id, n, nil, ARGV[5]))
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
