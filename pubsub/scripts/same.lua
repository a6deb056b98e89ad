-- same.lua: whether this node of a cluster takes writes in the slot of a partition, and finds there what the heartbeat before found.
-- KEYS[1] -> a key that does not exist, see beat.lua   KEYS[2..n+1] -> the topics' version keys   KEYS[n+2..] -> their registries
-- ARGV[1] -> n   ARGV[2..n+1] -> what the version keys held then
-- and if there are registries: ARGV[n+2] -> the instance's field there   ARGV[n+3..] -> what it holds in each
-- Output: 1, or 0 where beat.lua has to be run
redis.call('DEL', KEYS[1])
local topics = tonumber(ARGV[1])
for i = 2, topics + 1 do
  if redis.pcall('GET', KEYS[i]) ~= ARGV[i] then return 0 end
end
for i = topics + 2, #KEYS do
  if redis.pcall('HGET', KEYS[i], ARGV[topics + 2]) ~= ARGV[i + 1] then return 0 end
end
return 1
