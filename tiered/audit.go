package tiered

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote"
)

// maxSuspects bounds how many entries wait to be looked at again; while there are as many, no further ones are audited.
const maxSuspects = 256

// An audit takes an entry e that L1 would serve, reads what Redis has of its key, and where that is another value looks at e
// again when MaxStaleness has passed. It is a divergence if e would be served even then.
//
// What can happen meanwhile, and why it is none:
//
//   - A Set or Invalidate after e was sampled, whose message is on its way when Redis is read: the message comes, and e is gone
//     when it is looked at again. The message was published in one step with the change, and thus before Redis was read; e
//     is served MaxStaleness later only if a heartbeat which was sent after that reading has come back, and then the message
//     has come before it.
//   - The message is lost with the subscription: the session is over, and e with it.
//   - The message is late by more than MaxStaleness, or this process was stopped: so is the heartbeat, and e is not served.
//   - e was loaded while Redis was not asked or did not answer, and Redis has what was loaded before: what is there began
//     earlier than e was read, and nothing is wrong with e. Both times are of Redis' clock, as the last heartbeat has told it.
//   - Another server took over, or a new epoch began, while Redis was read: that reading does not count.
//   - The values are the same in other bytes (a random nonce, the order of a map): both are decoded and compared.
//   - e was replaced: it is an entry that is looked at again, not a key.
//
// What is left is an invalidation that was not published where this instance listens, although its heartbeats are: a script of
// a foreign writer, a proxy that drops messages, a defect of ours. And one thing that is allowed: a value that was loaded anew
// because it had aged (by Refresh, or after Redis had lost it) from a source that had changed without an invalidation. That
// looks the same from here, and is for who reads the report to know.
//
// That Redis has nothing of the key says nothing: it may have expired or been evicted there.

// suspect is an entry that differs from what Redis has had since at.
type suspect[V any] struct {
	key     string
	entry   *local.Entry[V]
	at      int64 // by mono, when Redis had answered
	created int64 // of what is in Redis, in ms of its time
}

// auditLoop audits an entry each Options.AuditEvery. It runs the user's codec, and nobody waits for it for long.
func (c *Cache[V]) auditLoop() {
	defer close(c.auditDone)
	ticker := time.NewTicker(c.opts.AuditEvery)
	defer ticker.Stop()
	var suspects []suspect[V]
	for {
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
		if suspects = c.lookAgain(suspects); len(suspects) == maxSuspects {
			continue
		}
		if s, differs := c.auditOne(); differs {
			suspects = append(suspects, s)
		}
	}
}

func (c *Cache[V]) startAudit() {
	if c.opts.AuditEvery > 0 {
		c.auditDone = make(chan struct{})
		go c.auditLoop()
	}
}

// awaitAudit waits until the audit has ended, no longer than CloseTimeout.
func (c *Cache[V]) awaitAudit() {
	if c.auditDone != nil {
		await(c.auditDone, c.opts.CloseTimeout)
	}
}

// auditOne compares an entry of L1 with what Redis has.
func (c *Cache[V]) auditOne() (suspect[V], bool) {
	var none suspect[V]
	key, e := c.local.Sample()
	if e == nil {
		return none, false
	}
	o := c.look(key)
	if !o.open || !o.keep || o.node.breaker.isOpen() || c.isPending(key) {
		return none, false
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.RedisTimeout)
	defer cancel()
	raw, err := o.node.reads.Get(ctx, key)
	at := mono.Now()
	if err != nil || raw == nil || !o.same() {
		return none, false
	}
	env, err := remote.Decode(raw, key)
	if err != nil || env.Schema != c.schema || env.Epoch != o.epoch {
		return none, false
	}
	same, err := c.sameValue(key, e, env)
	if err != nil { // bad entries are counted where somebody wants to read them
		return none, false
	}
	c.count.audited.Add(1)
	if same || env.Created <= o.latest(e.At()) {
		return none, false
	}
	return suspect[V]{key, e, at, env.Created}, true
}

// sameValue compares as the codec sees it: what it does not write down does not count.
func (c *Cache[V]) sameValue(key string, e *local.Entry[V], env remote.Envelope) (bool, error) {
	if e.Absent || env.Absent {
		return e.Absent == env.Absent, nil
	}
	ours, err := marshal(c.opts.Codec, c.entry(key), e.Value)
	if err != nil || bytes.Equal(ours, env.Payload) {
		return err == nil, err
	}
	here, err := unmarshal[V](c.opts.Codec, c.entry(key), ours)
	if err != nil {
		return false, err
	}
	there, err := unmarshal[V](c.opts.Codec, c.entry(key), env.Payload)
	if err != nil {
		return false, err
	}
	return reflect.DeepEqual(here, there), nil
}

// lookAgain reports those suspects that are still served although their time is over, and returns those whose time is not.
func (c *Cache[V]) lookAgain(suspects []suspect[V]) []suspect[V] {
	for len(suspects) > 0 {
		s := suspects[0]
		if mono.Now()-s.at <= int64(c.opts.MaxStaleness) {
			break // and so are those behind it
		}
		suspects = suspects[1:]
		if c.local.Serves(s.entry) {
			c.diverged(s)
		}
	}
	return suspects
}

// diverged reports a divergence, and ends it.
func (c *Cache[V]) diverged(s suspect[V]) {
	c.evict(s.key)
	c.count.diverged.Add(1)
	d := Divergence{Cache: c.name, Key: s.key, Found: time.Now(), LocalAge: time.Duration(mono.Now() - s.entry.At())}
	if now := c.redisNow(c.part(s.key)); now > 0 {
		d.RemoteAge = time.Duration(max(now-s.created, 0)) * time.Millisecond
	}
	c.watch.diverged(d)
	c.logger.Log(levelWarn, "diverged", "tandem: L1 has served another value than Redis for longer than MaxStaleness, dropping it",
		"cache", c.name, "key", fmt.Sprintf("%.64q", s.key), "local_age", d.LocalAge, "remote_age", d.RemoteAge)
}
