package pubsub

import "time"

// Topic is what a member of the bus listens to.
type Topic struct {
	// Partition is the partition of a cluster in which the names below are; zero on a Bus.
	Partition int
	// Channel is the Redis channel of the topic's messages.
	Channel string
	// VersionKey is a STRING in Redis that begins with a version of 16 hex digits, which each heartbeat reports. The heartbeat
	// makes a new random one if there is none, and where the server may have lost writes: then it publishes an All as well.
	// See scripts/beat.lua for the rest of the string.
	VersionKey string
	// VersionTTL is the TTL that heartbeats give VersionKey anew, once a minute or after a quarter of it.
	VersionTTL time.Duration
	// Registry is a HASH in Redis in which heartbeats register the instances that hear the topic, for [Bus.Settle]. Empty: this
	// one is not registered. All members of a topic in all processes must be, or Settle must not be used.
	Registry string
	// Bound is the staleness that the member promises. The bus beats at least three times within the smallest Bound of
	// its members.
	Bound time.Duration
	// Handler is told what happens.
	Handler Handler
}

// Handler is what a member does with what the bus hears. Its methods are called under the bus' lock, one at a time, and not
// after the member has left: they must return fast, do no I/O, and call no method of the bus but Kick.
type Handler interface {
	// Begin says that the channel is confirmed on a new connection: from here on every message is heard.
	Begin()
	// End says why messages may be missed from here on.
	End(reason error)
	// Prove says that every message published before at, by the clock of internal/mono, has been handed to Message.
	Prove(at int64)
	// Message hands over an Invalidate, a Tags, an All or a Wake, in the order in which Redis published them. It may do so
	// outside a session as well, of what it happens to hear.
	Message(m Message)
	// Unreadable says that something arrived on the channel that Parse refuses.
	Unreadable(err error)
	// Beat reports a heartbeat's outcome, in the order of the heartbeats.
	Beat(b BeatReport)
}

// BeatReport is the outcome of one heartbeat.
type BeatReport struct {
	// Err is why it failed, nil if the server took it. The fields below are set only then, Node and Sent always.
	Err error
	// Node is the address of the cluster's node that took or refused it; empty on a Bus, and where no node is known.
	Node string
	// Sent and Received are when it was sent and when the reply came, by the clock of internal/mono.
	Sent, Received int64
	// RedisNow is the time of Redis in ms when it ran, some time between the two.
	RedisNow int64
	// Version is the version that the topic's VersionKey held then.
	Version string
	// Moved says that the server may not have everything that was written since the last heartbeat before this one that
	// succeeded: another server has taken its place, or it has started again, or it does not tell and heartbeats have failed.
	Moved bool
	// Kept says that the version is one that another server handed on, and KeptFor how long ago by the clock of Redis: writes
	// that nobody has heard of since may be lost.
	Kept    bool
	KeptFor time.Duration
}
