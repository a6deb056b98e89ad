package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/quiet"
	"github.com/tandemcache/tandem/internal/redisclient"
)

// trackingChannel is where Redis tells a RESP2 client of changed keys.
const trackingChannel = "__redis__:invalidate"

// maxGreeting bounds how long a connection may take to be made: where nothing answers, Close may have to wait for it.
const maxGreeting = 5 * time.Second

// Tracker hears from Redis which keys change, whoever changes them: CLIENT TRACKING in broadcast mode, see
// https://redis.io/docs/latest/develop/reference/client-side-caching/. It is beside the bus and proves nothing.
type Tracker struct {
	client redis.UniversalClient
	opts   TrackerOptions
	logger *quiet.Logger
	ctx    context.Context //nolint:containedctx // the life of the tracker's goroutines, ended by Close
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// TrackerOptions are what a Tracker is made with.
type TrackerOptions struct {
	// Prefix is that of the keys to hear of; it is cut off.
	Prefix string
	// Interval is the time between two signs of life that the server is asked for. Required.
	Interval time.Duration
	// Changed is called with the keys that were written, deleted, evicted or have expired, in this tracker's time. It must not
	// block.
	Changed func(keys []string)
	// Begin is called at the beginning of each connection, before which changes may have gone unheard; a database that is
	// flushed makes a new one. End is called when that is over. They must not block.
	Begin, End func()
	// Logger may be nil.
	Logger *slog.Logger
}

// TrackingOn is what the tracker's client does with each new connection: RESP2, whose invalidations are messages, and
// redirected to the connection itself.
func TrackingOn(prefix string) func(ctx context.Context, cn *redis.Conn) error {
	return func(ctx context.Context, cn *redis.Conn) error {
		id, err := cn.ClientID(ctx).Result()
		if err != nil {
			return fmt.Errorf("CLIENT ID: %w", err)
		}
		if err := cn.Do(ctx, "CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", "PREFIX", prefix).Err(); err != nil {
			return fmt.Errorf("CLIENT TRACKING: %w", err)
		}
		return nil
	}
}

// Track starts a tracker on client, which stays the caller's, is nobody else's, speaks RESP2, and calls TrackingOn for each of
// its connections.
func Track(client redis.UniversalClient, opts TrackerOptions) *Tracker {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tracker{client: client, opts: opts, logger: quiet.New(opts.Logger, time.Minute), ctx: ctx, cancel: cancel}
	t.done.Go(t.loop)
	return t
}

// Stop ends the tracker without waiting for its goroutines. What they wait for the client's Reset ends.
func (t *Tracker) Stop() { t.cancel() }

// Close is Stop, and waits for the tracker's goroutines: for a server that does not answer as long as for one that is dead, unless
// the client is reset and closed between Stop and Close.
func (t *Tracker) Close() {
	t.Stop()
	t.done.Wait()
}

func (t *Tracker) loop() {
	var retry backoff
	for t.ctx.Err() == nil {
		began := time.Now()
		err := t.connection()
		if t.ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			retry.reset()
		}
		t.logger.Log(slog.LevelWarn, "tracking", "tandem: key tracking lost, connecting again", "reason", err)
		sleep(t.ctx, retry.next())
	}
}

// connection listens until the first doubt, which it returns. A flushed database is one as well: go-redis cannot read its
// message.
func (t *Tracker) connection() (err error) {
	ps := t.client.Subscribe(t.ctx)
	var pings sync.WaitGroup
	over := make(chan struct{})
	begun := false
	defer func() {
		if p := recover(); p != nil { // go-redis asserts the types of what it reads
			err = fmt.Errorf("panic while receiving: %v", p)
		}
		close(over)
		_ = ps.Close()
		pings.Wait()
		if begun {
			t.opts.End()
		}
	}()
	if err := t.subscribe(ps); err != nil {
		return err
	}
	pings.Go(func() { t.ping(ps, over) })
	for {
		m, err := receive(redisclient.WithoutDial(t.ctx), ps, silence(t.opts.Interval))
		if err != nil {
			return err
		}
		if err := t.ctx.Err(); err != nil { // which no read looks at, and signs of life would go on to come
			return err
		}
		switch m := m.(type) {
		case *redis.Subscription:
			if begun {
				return fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
			}
			begun = true
			t.opts.Begin()
		case *redis.Message:
			t.tell(m)
		case *redis.Pong:
		default:
			return fmt.Errorf("received a %T", m)
		}
	}
}

func (t *Tracker) subscribe(ps *redis.PubSub) error {
	ctx, cancel := context.WithTimeout(t.ctx, min(silence(t.opts.Interval), maxGreeting))
	defer cancel()
	return ps.Subscribe(ctx, trackingChannel)
}

func (t *Tracker) tell(m *redis.Message) {
	keys := m.PayloadSlice[:0]
	for _, key := range m.PayloadSlice {
		if key, ours := strings.CutPrefix(key, t.opts.Prefix); ours {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		t.opts.Changed(keys)
	}
}

// ping asks for signs of life. That one cannot be asked for shows in their absence.
func (t *Tracker) ping(ps *redis.PubSub, over <-chan struct{}) {
	tick := time.NewTicker(t.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = ps.Ping(redisclient.Deadline(redisclient.WithoutDial(t.ctx), time.Now().Add(writePatience)))
		case <-over:
			return
		}
	}
}
