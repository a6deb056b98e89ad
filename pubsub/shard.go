package pubsub

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
)

var (
	// errGivenUp is why the sessions of a partition end whose slot a node has given up: it was migrated, or the node replaced.
	errGivenUp = errors.New("the node has given up the slot")
	// errRefusedSlot is why a partition is without a node which does not let its channels be subscribed to.
	errRefusedSlot = errors.New("the node refuses the slot")
	// errUnused is why a node is not connected to: its partitions have gone meanwhile.
	errUnused = errors.New("the node has no partition any more")
)

// shard is the part of a cluster's bus that is on one node: one connection, and the partitions whose slots the node is taken to
// own.
//
// Redis answers the commands of a connection in order, and a refusal does not say whose it is; so requests that are not answered
// wait in a queue. Where a refusal is taken for that of another partition, that one's sessions end for nothing.
type shard struct {
	of     *Cluster
	addr   string
	client redis.UniversalClient
	ctx    context.Context //nolint:containedctx // the life of the goroutines, ended by endLocked
	cancel context.CancelFunc
	kick   chan struct{}
	sent   sentBeats
	acks   acks

	beating        chan struct{} // holds a word while no heartbeat is on its way
	berth                        // beatLoop's, but for whereabouts
	tellsOtherwise bool          // beatLoop's: the server's INFO is not laid out as steady.lua reads it

	// What follows is guarded by the cluster's lock.
	parts    map[*part]struct{}
	channels map[string]*shardChannel // the topics' of parts, and their private ones
	conn     *shardConn               // nil while there is no connection
	failing  bool                     // the last attempt to connect, or the last connection, has failed, with parts that miss it
	arrived  chan struct{}            // closed when there are parts
	unused   int64                    // since when there are none, by mono
}

// shardRequest is for channels of one slot, those that are not answered yet. An answer that comes when the part has been given up
// and taken again, or a channel been left and joined again, says nothing: there is a later request.
type shardRequest struct {
	of       *part
	take     uint64 // the part's
	channels map[string]*shardChannel
	leave    bool
}

func (r shardRequest) names() []string { return slices.Collect(maps.Keys(r.channels)) }

// requestLocked is for these channels of p.
func (p *part) requestLocked(channels map[string]*shardChannel) shardRequest {
	return shardRequest{of: p, take: p.take, channels: channels}
}

// everythingLocked is for all channels of p, which s has.
func (s *shard) everythingLocked(p *part) shardRequest {
	channels := maps.Clone(p.topics)
	channels[p.inbox] = s.channels[p.inbox]
	return p.requestLocked(channels)
}

func newShard(c *Cluster, addr string, client redis.UniversalClient) *shard {
	s := &shard{
		of: c, addr: addr, client: client, kick: make(chan struct{}, 1), beating: make(chan struct{}, 1), acks: make(acks, maxAcks),
		parts: make(map[*part]struct{}), channels: make(map[string]*shardChannel), arrived: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	s.berth = berth{life: s.ctx, logger: c.logger, redial: func() { c.opts.Redial(addr) }, again: s.beatSoon}
	s.beating <- struct{}{}
	return s
}

// endLocked ends the shard for good.
func (s *shard) endLocked() {
	s.cancel()
	if s.conn != nil {
		s.conn.close()
	}
	for p := range s.parts {
		s.detachLocked(p, ErrClosed)
	}
}

// beatSoon asks for a heartbeat now. It does not wait.
func (s *shard) beatSoon() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// takeLocked makes the shard hear p.
func (s *shard) takeLocked(p *part) {
	p.on, p.last, p.taken = s, s, mono.Never
	p.home.Store(s)
	p.registers.doubt()
	p.take++
	if len(s.parts) == 0 {
		close(s.arrived)
	}
	s.parts[p] = struct{}{}
	s.channels[p.inbox] = &shardChannel{of: p, heard: mono.Never, proved: mono.Never}
	maps.Copy(s.channels, p.topics)
	if s.conn != nil {
		s.conn.requestLocked(s.everythingLocked(p))
	}
}

// addLocked makes the shard hear one more channel of a part that it has.
func (s *shard) addLocked(name string, ch *shardChannel) {
	s.channels[name] = ch
	if s.conn != nil {
		s.conn.requestLocked(ch.of.requestLocked(map[string]*shardChannel{name: ch}))
	}
}

// removeLocked gives up one channel, to which nobody listens any more.
func (s *shard) removeLocked(name string) {
	ch := s.channels[name]
	delete(s.channels, name)
	if s.conn != nil && ch != nil {
		r := ch.of.requestLocked(map[string]*shardChannel{name: ch})
		r.leave = true
		s.conn.requestLocked(r)
	}
}

// dropLocked gives up p, which nobody listens to any more or which is another node's.
func (s *shard) dropLocked(p *part) {
	if s.conn != nil {
		r := s.everythingLocked(p)
		r.leave = true
		s.conn.requestLocked(r)
	}
	s.detachLocked(p, errGivenUp)
}

// loseLocked says that the node does not have p's slot.
func (s *shard) loseLocked(p *part, reason error) {
	if p.on != s {
		return
	}
	s.detachLocked(p, reason)
	p.leftLocked(s.addr, reason)
	s.of.logger.Log(slog.LevelInfo, "moved", "tandem: a slot is looked for on another node", "reason", reason)
	s.of.searchSoon()
}

// leftLocked notes who does not have p, and for how long that one is not asked again: see astray for the others.
func (p *part) leftLocked(addr string, reason error) {
	now := mono.Now()
	quiet := now-p.again > int64(maxBackoff)
	if quiet {
		p.retry.reset()
	}
	p.astray = !quiet && p.left != "" && p.left != addr
	p.left, p.again, p.reason = addr, now+int64(p.retry.next()), reason
}

func (s *shard) detachLocked(p *part, reason error) {
	delete(s.parts, p)
	delete(s.channels, p.inbox)
	for name, ch := range p.topics {
		delete(s.channels, name)
		ch.endLocked(reason)
		ch.subscribed = false
	}
	p.on, p.taken = nil, mono.Never
	p.home.Store(nil)
	if len(s.parts) == 0 {
		s.arrived = make(chan struct{})
		s.unused = mono.Now()
	}
}

// beginLocked begins a session.
func (ch *shardChannel) beginLocked() {
	ch.begun, ch.heard, ch.proved = true, mono.Never, mono.Never
	for _, m := range ch.members {
		m.Handler.Begin()
	}
}

// endLocked ends the channel's session, if it had begun.
func (ch *shardChannel) endLocked(reason error) {
	if ch.begun {
		for _, m := range ch.members {
			m.Handler.End(reason)
		}
	}
	ch.begun = false
}
