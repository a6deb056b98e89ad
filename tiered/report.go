package tiered

import (
	"log/slog"

	"github.com/tandemcache/tandem/pubsub"
)

// What is logged, each cause once a minute: at Warn what costs speed or is left undone until somebody acts, at Info that it is
// over, at Error a panic of the Observer. That a loader fails is not logged: its caller is told.

// reportBeat says when Redis takes no heartbeats any more and when it does again.
func (c *Cache[V]) reportBeat(p *part, b pubsub.BeatReport) {
	if failing := b.Err != nil; p.beatFailing.Swap(failing) == failing {
		return
	}
	if b.Err != nil {
		c.logger.Log(levelWarn, "heartbeat", "tandem: Redis takes no heartbeat, going on without it",
			"cache", c.name, "node", b.Node, "error", b.Err)
		return
	}
	c.logger.Log(slog.LevelInfo, "heartbeat back", "tandem: Redis takes heartbeats again", "cache", c.name, "node", b.Node)
}

// reportSession says that invalidations are heard, which the log of a lost subscription is to be read with.
func (c *Cache[V]) reportSession() {
	c.logger.Log(slog.LevelInfo, "session", "tandem: subscribed, L1 starts empty", "cache", c.name)
}

// reportRepeated says that what was pending is not any more.
func (c *Cache[V]) reportRepeated() {
	c.logger.Log(slog.LevelInfo, "repeated", "tandem: Redis has taken all pending invalidations", "cache", c.name)
}
