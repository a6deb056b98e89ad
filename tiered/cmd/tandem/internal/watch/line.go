package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

var errGivenUp = errors.New("it has given up the slots")

// line is a connection to one node, for some partitions of a cache. go-redis would connect again by itself and hide the gap, and
// pass over that a node has given up a slot, after which it is silent.
type line struct {
	addr       string
	partitions map[string]int // by channel
	left       int            // the follower's: how many partitions are the line's still
	cancel     context.CancelFunc
	reports    chan<- report
}

// report is what a line says: that it has ended; that a partition was given up, if there is an error; a message; or, with none
// of these, that it listens to all of its partitions.
type report struct {
	line      *line
	partition int
	message   *Event
	err       error
	ended     bool
}

func (l *line) run(ctx context.Context, c *cluster.Client) {
	err := l.listen(ctx, c)
	l.send(ctx, report{ended: true, err: err})
}

// send does not outlast ctx: nobody listens then.
func (l *line) send(ctx context.Context, r report) {
	r.line = l
	select {
	case l.reports <- r:
	case <-ctx.Done():
	}
}

// listen holds the connection until it fails.
func (l *line) listen(ctx context.Context, c *cluster.Client) error {
	client, err := c.Node(l.addr)
	if err != nil {
		return err
	}
	ps := client.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	// A Receive does not heed the end of its context.
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()

	open, err := l.subscribe(ctx, ps)
	if err != nil {
		return err
	}
	// From here on a connection that is lost stays lost.
	still, cancelPings := context.WithCancel(redisclient.WithoutDial(ctx))
	pings := make(chan struct{})
	go func() {
		defer close(pings)
		ping(still, ps)
	}()
	defer func() {
		cancelPings()
		<-pings
	}()
	for {
		got, err := ps.ReceiveTimeout(redisclient.Deadline(still, time.Now().Add(silence)), 0)
		if err != nil {
			return explain(err) // also that the node refuses a channel, whose slot another has
		}
		if err := l.apply(ctx, open, got); err != nil {
			return err
		}
	}
}

// subscribe asks for the channels, one by one because their slots differ, and returns those to be confirmed.
func (l *line) subscribe(ctx context.Context, ps *redis.PubSub) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	open := make(map[string]bool)
	for channel := range l.partitions {
		if len(open) == 1 { // the first has made the connection, and there is to be no other
			ctx = redisclient.WithoutDial(ctx)
		}
		if err := ps.SSubscribe(ctx, channel); err != nil {
			return nil, err
		}
		open[channel] = true
	}
	return open, nil
}

func (l *line) apply(ctx context.Context, open map[string]bool, got any) error {
	switch m := got.(type) {
	case *redis.Subscription:
		return l.confirm(ctx, open, m)
	case *redis.Message:
		e := eventOf(m)
		l.send(ctx, report{partition: l.partitions[m.Channel], message: &e})
	}
	return nil
}

func (l *line) confirm(ctx context.Context, open map[string]bool, m *redis.Subscription) error {
	switch {
	case m.Kind == "sunsubscribe" && len(open) == 0:
		l.send(ctx, report{partition: l.partitions[m.Channel], err: errGivenUp})
	case m.Kind == "ssubscribe" && open[m.Channel]:
		delete(open, m.Channel)
		if len(open) == 0 {
			l.send(ctx, report{})
		}
	default:
		return fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
	}
	return nil
}
