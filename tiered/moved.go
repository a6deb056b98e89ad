package tiered

import "time"

// moved repeats what a server that is gone may have taken with it; sure says that there was one.
func (c *Cache[V]) moved(p *part, sure bool) {
	keys, tags, all := p.journal.take()
	c.count.replayed.Add(uint64(len(keys) + len(tags)))
	if sure {
		c.tellMoved(len(keys)+len(tags), all)
	}
	if all {
		p.pending.addAll(time.Now())
	}
	if len(keys) > 0 {
		p.pending.add(keys, time.Now())
	}
	if len(tags) > 0 {
		p.pending.addTags(tags, time.Now())
	}
}

func (c *Cache[V]) tellMoved(keys int, all bool) {
	c.logger.Log(levelWarn, "moved", "tandem: Redis may have lost writes that it had confirmed, repeating the last invalidations",
		"cache", c.name, "keys", keys, "all", all)
}
