-- ask.lua: asks the instances of a topic to acknowledge, and answers from whom it takes to be all of them. Where anything is
-- not as the caller expects it asks nobody and answers nothing.
-- KEYS[1] -> a key that does not exist, see beat.lua
-- KEYS[2] -> the topic's registry, HASH: an instance's id -> the random word that it wrote there last, or "-<ms>": somebody has
--            waited in vain for its acknowledgement until that time, and its next heartbeat has not come yet
-- ARGV[1] -> the topic's channel   ARGV[2] -> message   ARGV[3] -> the caller's field   ARGV[4] -> what it holds
-- ARGV[5] -> "master_replid:<id>" and CR, with the replication id of the server that took the last heartbeat, "" if unknown
-- ARGV[6] -> the topic's bound in ms
-- Output: {number of subscriptions reached, in how many ms those who are marked have lost their proof, -1 without any,
--          id, word, id, word, ...}
redis.call('DEL', KEYS[1])
if redis.pcall('HGET', KEYS[2], ARGV[3]) ~= ARGV[4] then return {} end
if ARGV[5] ~= '' then
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' or not string.find(info, ARGV[5], 1, true) then return {} end
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local bound = tonumber(ARGV[6])
local out = {0, -1}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local at = string.match(all[i + 1], '^%-(%d+)$')
  if at then
    local left = tonumber(at) + bound - now
    if left > bound then -- the clock was set back
      redis.call('HSET', KEYS[2], all[i], string.format('-%.0f', now))
      left = bound
    end
    if left < 0 then
      redis.call('HDEL', KEYS[2], all[i])
    else
      out[2] = math.max(out[2], left)
    end
  else
    out[#out + 1] = all[i]
    out[#out + 1] = all[i + 1]
  end
end
out[1] = redis.call('PUBLISH', ARGV[1], ARGV[2])
return out
