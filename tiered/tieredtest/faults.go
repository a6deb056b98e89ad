package tieredtest

import (
	"time"

	"github.com/tandemcache/tandem/pubsub"
)

// Partition cuts instance i off from Redis: nothing arrives, in either direction, and connections that are being made
// hang. Neither side is told. What is on its way arrives after Heal if its connection still stands then, and is lost
// otherwise.
func (f *Fleet[V]) Partition(i int) {
	f.t.Helper()
	l := f.at(i).link
	l.change(func() { l.cut = true })
}

// Delay makes everything between instance i and Redis take d longer in each direction, so a round trip 2d. A later call
// goes for what is sent then. Zero or less: none.
func (f *Fleet[V]) Delay(i int, d time.Duration) {
	f.t.Helper()
	l := f.at(i).link
	l.change(func() { l.delay = max(d, 0) })
}

// DropMessages makes the subscriptions of instance i deaf: what Redis publishes is lost to it and nobody is told, while it
// reads and writes as before. A subscription that is deaf remains so after Heal, and is replaced by one that is not
// when the instance finds out.
func (f *Fleet[V]) DropMessages(i int) {
	f.t.Helper()
	l := f.at(i).link
	l.change(func() { l.deaf = true })
}

// Heal ends what Partition, Delay and DropMessages did to instance i. The instance needs a moment to find out: see Settle.
func (f *Fleet[V]) Heal(i int) {
	f.t.Helper()
	f.at(i).link.heal()
}

func (l *link) heal() {
	l.change(func() { l.cut, l.deaf, l.delay = false, false, 0 })
}

// RedisDown makes Redis reset every connection and refuse new ones until RedisUp. It keeps its data, of which what has a TTL
// goes on to expire.
func (f *Fleet[V]) RedisDown() { f.net.setDown(true) }

// RedisUp ends RedisDown. The instances need a moment to find out: see Settle.
func (f *Fleet[V]) RedisUp() { f.net.setDown(false) }

// FastForward lets d pass, and returns when every live instance has noticed: as Settle does. In a bubble it sleeps for d.
//
// Outside a bubble it makes Redis' clock jump instead, and drops what is in L1: so what was stored before is
// found to be as old as it would be, or expired. The clocks of the process stand where they were: those of LocalTTL,
// MaxStaleness and whatever else is measured on this side of Redis. An instance that cannot hear keeps its L1.
func (f *Fleet[V]) FastForward(d time.Duration) {
	f.t.Helper()
	if f.bubble {
		time.Sleep(d)
		return
	}
	f.jump(max(d, 0))
	f.jump(0) // what Redis answered to the heartbeat of the first may be on its way still; the next is sent when it has come
}

// jump returns when every live instance has heard itself since. The message has them send a heartbeat at once.
func (f *Fleet[V]) jump(d time.Duration) {
	f.t.Helper()
	f.net.jump(d)
	f.net.redis.Publish(channel(), string(pubsub.Message{Op: pubsub.All, Sender: cacheName}.Encode()))
	f.Settle()
}

func (n *network) jump(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ahead += d
	for _, l := range n.links {
		l.broken = time.Now() // so that Settle waits for a heartbeat that knows the new time
	}
}
