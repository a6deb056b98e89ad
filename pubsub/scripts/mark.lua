-- mark.lua: notes when somebody gave up waiting for the acknowledgement of instances, where they have not registered again.
-- KEYS[1] -> a key that does not exist: after deleting it a full Redis takes the rest   KEYS[2] -> the topic's registry, see ask.lua
-- ARGV    -> id, the word that it had registered with, id, word, ...
-- Output: how many it has marked
redis.call('DEL', KEYS[1])
local t = redis.call('TIME')
local mark = string.format('-%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local n = 0
for i = 1, #ARGV, 2 do
  if redis.pcall('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', KEYS[2], ARGV[i], mark)
    n = n + 1
  end
end
return n
