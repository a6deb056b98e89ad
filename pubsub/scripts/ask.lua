-- ask.lua: asks the instances of a topic to acknowledge, and answers from whom it takes to be all of them. Where anything is
-- not as the caller expects it asks nobody and answers nothing.
-- KEYS[1] -> a key that does not exist, see beat.lua
-- KEYS[2] -> the topic's registry, HASH: an instance's id -> the random word that it wrote there last, or "-<ms>": somebody has
--            waited in vain for its acknowledgement until that time, and its next heartbeat has not come yet
-- ARGV[1] -> the topic's channel   ARGV[2] -> message   ARGV[3] -> the caller's id   ARGV[4] -> what it has written there
-- ARGV[5] -> "master_replid:<id>" and CR, with the replication id of the server that took the last heartbeat, "" if unknown
-- ARGV[6] -> the topic's bound in ms   ARGV[7], ARGV[8] -> what an instance's private channel has before and behind its id
-- Output: {number of subscriptions that are of no instance in the registry, in how many ms the proof of those who are marked
--          has passed, -1 without any, id, word, id, word, ...}
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
local known = 0
local all = redis.call('HGETALL', KEYS[2])
for first = 1, #all, 1000 do
  -- A private channel is subscribed on the same connection as the topic's. Redis may still have that of an instance which is
  -- gone, as when its machine has lost power, and that counts until it is given up.
  local channels = {}
  for i = first, math.min(first + 999, #all), 2 do
    channels[#channels + 1] = ARGV[7] .. all[i] .. ARGV[8]
  end
  local numbers = redis.pcall('PUBSUB', 'NUMSUB', unpack(channels))
  for n = 1, #channels do
    local id, word = all[first + 2 * n - 2], all[first + 2 * n - 1]
    local subscriptions = tonumber(numbers[2 * n]) or 1
    local at = string.match(word, '^%-(%d+)$')
    if at then
      local left = tonumber(at) + bound - now
      if left > bound then -- the clock was set back
        redis.call('HSET', KEYS[2], id, string.format('-%.0f', now))
        left = bound
      end
      out[2] = math.max(out[2], left)
      if left < 0 and subscriptions == 0 then
        redis.call('HDEL', KEYS[2], id)
      end
    else
      out[#out + 1] = id
      out[#out + 1] = word
    end
    known = known + subscriptions
  end
end
out[1] = redis.call('PUBLISH', ARGV[1], ARGV[2]) - known
return out
