package tiered

import "time"

// moved repeats what a server that is gone may have taken with it.
func (c *Cache[V]) moved() {
	keys, all := c.journal.take()
	c.count.moves.Add(1)
	c.count.replayed.Add(uint64(len(keys)))
	c.logger.Log(levelWarn, "moved", "tandem: Redis may have lost writes that it had confirmed, repeating the last invalidations",
		"cache", c.name, "keys", len(keys), "all", all)
	if all {
		c.pending.addAll(time.Now())
	}
	if len(keys) > 0 {
		c.pending.add(keys, time.Now())
	}
}
