-- acquire.lua: takes the right to load an entry, or answers what is there instead.
-- KEYS[1] -> tandem:{cache}:k:<key>   HASH
-- KEYS[2] -> tandem:{cache}:epoch     STRING, the epoch in 16 hex digits, ":", and what the heartbeat notes there
-- ARGV[1] -> value's field   ARGV[2] -> lease's field   ARGV[3] -> waiters' field
-- ARGV[4] -> token, 32 hex digits
-- ARGV[5] -> lease's TTL in ms
-- ARGV[6] -> what the caller makes of a value that is there: "" it wants it; "*" it loads all the same, and takes the lease
--            from whoever holds it; else the SHA-1 of a value that it has seen and cannot use
-- ARGV[7] -> the caller's private channel, told when the holder is done
-- ARGV[8] -> a random epoch, in case there is none   ARGV[9] -> the epoch's TTL in ms
-- ARGV[10] -> the longest value that is one; a longer one is as good as none
-- ARGV[11] -> "1": the lease is shared with who holds it
-- ARGV[12] -> 16 random hex digits, in case there is no counter of tags, if the caller's values may have tags
-- Output: {code, epoch, now in ms, value or token, counter}; code 1 acquired, under this token, 2 the value is there,
-- 3 somebody else holds the lease; the counter if it was asked for
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local value = false
local size = redis.pcall('HSTRLEN', KEYS[1], ARGV[1])
if type(size) == 'table' then
  -- Another Redis type is under our key. It cannot become an entry, and a load is about to replace it.
  redis.call('DEL', KEYS[1])
elseif size <= tonumber(ARGV[10]) then
  value = redis.call('HGET', KEYS[1], ARGV[1])
end
local prefix = string.sub(KEYS[2], 1, -6)
local tags = value and tagKeys(value, prefix)
if tags and not stand(tags, redis.call('HGET', KEYS[1], ARGV[1] .. '.t')) then
  value = false
end
local stored = redis.pcall('GET', KEYS[2])
local epoch = type(stored) == 'string' and string.match(stored, '^([0-9a-f]+):') or ''
if #epoch ~= 16 then
  redis.call('DEL', KEYS[2])
  redis.call('SET', KEYS[2], ARGV[8] .. ':+', 'PX', ARGV[9])
  epoch = ARGV[8]
end
if value and (ARGV[6] == '' or (ARGV[6] ~= '*' and redis.sha1hex(value) ~= ARGV[6])) then
  return {2, epoch, now, value}
end
-- Before the load begins: it may store nothing that is invalidated after this.
local asOf
if ARGV[12] then
  local id, n = counter(prefix)
  asOf = id and string.format('%s:%.0f', id, n) or count(prefix, ARGV[12], 0, ARGV[9])
end
local lease = redis.call('HGET', KEYS[1], ARGV[2])
if lease and ARGV[6] ~= '*' and string.sub(lease, -32) ~= ARGV[4] then
  local expires = tonumber(string.sub(lease, 1, 13))
  -- One that is to last longer than any lease is not ours, and would keep the entry out for ever.
  if expires and expires > now and expires <= now + tonumber(ARGV[5]) then
    if ARGV[11] == '1' then
      return {1, epoch, now, string.sub(lease, -32), asOf}
    end
    local waiters = redis.call('HGET', KEYS[1], ARGV[3]) or ''
    if #waiters < 8192 and not string.find(waiters, ARGV[7], 1, true) then
      redis.call('HSET', KEYS[1], ARGV[3], waiters .. ARGV[7] .. ' ')
    end
    return {3, epoch, now}
  end
end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%013d:%s', now + ARGV[5], ARGV[4]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return {1, epoch, now, ARGV[4], asOf}
