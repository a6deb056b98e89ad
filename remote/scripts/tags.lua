-- tags.lua: comes before each script that deals with values which may have tags.
--
-- A tag's version is what the counter of the cache's invalidations by tag held when the version was made; an invalidation
-- counts, and deletes the versions. So a version that comes back is another one, unless nothing was invalidated meanwhile, and
-- one that is lost agrees with no entry. Entries have the versions of their tags beside them, in the order of the envelope.
--   tandem:{cache}:tags      STRING, the counter: 16 random hex digits, new if it was lost, ":", the number
--   tandem:{cache}:t:<tag>   STRING, the tag's version

-- tagKeys returns the keys of an envelope's tags, or nil if it tells none. See envelope.go for its bytes.
local function tagKeys(envelope, prefix)
  if string.sub(envelope, 1, 3) ~= 'TD\1' or (string.byte(envelope, 4) or 0) % 4 < 2 then return nil end
  local at = 46 + (string.byte(envelope, 45) or 0)
  local keys = {}
  for i = 1, string.byte(envelope, at) or 0 do
    local length = string.byte(envelope, at + 1) or 0
    keys[i] = prefix .. 't:' .. string.sub(envelope, at + 2, at + 1 + length)
    at = at + 1 + length
  end
  return keys
end

-- stand reports whether tags are what they were when a value was stored.
local function stand(keys, recorded)
  if #keys == 0 then return true end
  local versions = redis.call('MGET', unpack(keys))
  for i = 1, #keys do
    if not versions[i] then return false end
  end
  return recorded == table.concat(versions, ' ')
end

-- counter returns the counter's two parts; nil if there is none.
local function counter(prefix)
  local stored = redis.pcall('GET', prefix .. 'tags')
  if type(stored) ~= 'string' then return nil end
  local id, n = string.match(stored, '^(%x+):(%d+)$')
  if not id or #id ~= 16 or #n > 15 then return nil end
  return id, tonumber(n)
end

-- count makes the counter say n.
local function count(prefix, id, n, ttl)
  local stored = string.format('%s:%.0f', id, n)
  redis.call('SET', prefix .. 'tags', stored, 'PX', ttl)
  return stored
end

-- settle returns the versions of these tags, and makes those that there are none of. They last longer than an entry that is
-- stored for ttl. It returns nil if one of them was invalidated later than the counter (id and n) said asOf, or may have been.
local function settle(keys, prefix, id, n, asOf, ttl)
  ttl = tonumber(ttl)
  local now = string.format('%s:%.0f', id, n)
  local good, versions = true, {}
  local known, since = id, n
  if asOf then
    known, since = string.match(asOf, '^(%x+):(%d+)$')
    good = known == id
  end
  for i, key in ipairs(keys) do
    local version = redis.pcall('GET', key)
    local made, at
    if type(version) == 'string' then made, at = string.match(version, '^(%x+):(%d+)$') end
    if not made then
      version, made, at = now, id, n
      redis.call('SET', key, version, 'PX', 2 * ttl)
    elseif redis.call('PTTL', key) < ttl then
      redis.call('PEXPIRE', key, 2 * ttl)
    end
    -- A version of an earlier counter than this one is older than whoever has seen this one.
    if good and made == id and tonumber(at) > tonumber(since) then good = false end
    versions[i] = version
  end
  return good and table.concat(versions, ' ') or nil
end

