package tiered

import (
	"context"
	"time"

	"github.com/tandemcache/tandem/pubsub"
)

// hub is what a Bus needs of pubsub: a pubsub.Bus for a single Redis, a pubsub.Cluster for a cluster. A node is named by its
// address, the single Redis by "".
type hub interface {
	Join(t pubsub.Topic) (leave func(), err error)
	Kick(partition int)
	ID() string
	Inbox(partition int) string
	Settle(ctx context.Context, t pubsub.Topic, timeout time.Duration) error
	Resign(ctx context.Context, t pubsub.Topic)
	Server(node string) (id string, known bool)
	Reached(node, id string) bool
	Stop()
	Close()
}

var (
	_ hub = single{}
	_ hub = (*pubsub.Cluster)(nil)
)

// single is the hub of a single Redis, where everything is in one partition.
type single struct{ *pubsub.Bus }

func (s single) Kick(int)                              { s.Bus.Kick() }
func (s single) Inbox(int) string                      { return s.Bus.Inbox() }
func (s single) Server(string) (id string, known bool) { return s.Bus.Server() }
func (s single) Reached(_, id string) bool             { return s.Bus.Reached(id) }
func (s single) Resign(ctx context.Context, t pubsub.Topic) {
	s.Bus.Resign(ctx, t.Registry)
}
