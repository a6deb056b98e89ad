// Package redisclient derives the clients that tandem uses from the one that it is given.
//
// The given client is tuned for its owner: with go-redis' defaults a read from a server that does not answer returns after
// five seconds although its context allowed one, the next after a hundred, and a lost reply makes the client send a script
// a second time. A wait can be bounded from outside only by leaving a goroutine behind for each call. So tandem opens
// connections of its own to the same server, with the same address, credentials, TLS and dialer, whose waits obey the
// context and nothing else, and which repeat nothing. They also keep heartbeats and invalidations out of the queue for the
// application's pool. They can be closed all at once, to follow a server that has moved, and refuse what is too long to be
// for us before memory is taken for it.
package redisclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrUnsupported is returned for a client that cannot keep the contract, with what to use instead.
var ErrUnsupported = errors.New("unsupported Redis client")

// instead is what to hand over.
const instead = "use *redis.Client, or *redis.ClusterClient with a Redis Cluster"

const (
	// maxDialTimeout bounds a dial that runs on in the background after its caller's context has ended, and what else of the
	// owner's code makes connections where no context has a deadline.
	maxDialTimeout = 2 * time.Second
	// maxAbandoned bounds how many such calls there are: a dialer that hangs, such as one that asks Sentinels which do not
	// answer, is not asked by more goroutines at once.
	maxAbandoned = 16
)

var errAbandoned = errors.New("earlier attempts to connect still hang")

// VerifyFunc looks at a new connection before it is used; an error closes it and is returned to who asked for one.
type VerifyFunc func(ctx context.Context, cn *redis.Conn) error

// Derive returns a new client to the server of rdb, or an error that wraps ErrUnsupported. The caller closes it. A client
// for Sentinel gives one whose every new connection leads to who is master then; Reset makes it ask. verify may be nil.
//
// Hooks of rdb are not taken over: go-redis does not give them out. The changes are made to what it takes over.
func Derive(rdb redis.UniversalClient, verify VerifyFunc, changes ...func(*redis.Options)) (*Client, error) {
	c, err := check(rdb)
	if err != nil {
		return nil, err
	}
	return derive(*c.Options(), verify, changes...), nil
}

// derive returns a client with these options as tandem wants them.
func derive(opt redis.Options, verify VerifyFunc, changes ...func(*redis.Options)) *Client {
	opt.ContextTimeoutEnabled = true
	opt.ReadTimeout, opt.WriteTimeout = -1, -1 // none but the context's
	opt.MaxRetries = -1
	opt.DialerRetries = 1
	opt.DialTimeout = min(opt.DialTimeout, maxDialTimeout)
	opt.MinIdleConns = 0
	opt.PipelinePoolSize = -1
	opt.AutoPipelineOptions = nil
	// The owner's limiter and notification handler count and steer the owner's traffic, not ours.
	opt.Limiter = nil
	opt.PushNotificationProcessor = nil
	// A handover that the client does by itself would reconnect the subscription behind our back.
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	derived := &Client{conns: conns{open: make(map[*conn]struct{})}}
	derived.AllowBulk(minBulk)
	var owners patience
	opt.Dialer = derived.conns.dialer(owners.dialing(opt.Dialer))
	for _, change := range changes {
		change(&opt)
	}
	opt.OnConnect = both(owners.connecting(opt.OnConnect), verify)
	opt.CredentialsProviderContext, opt.CredentialsProvider = owners.naming(opt.CredentialsProviderContext, opt.CredentialsProvider), nil
	opt.StreamingCredentialsProvider = owners.streaming(opt.StreamingCredentialsProvider)
	derived.Client = redis.NewClient(&opt)
	return derived
}

// dialer returns a dialer that keeps track of what it dials with the given one.
func (s *conns) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(noDialKey{}) != nil {
			return nil, errNoDial
		}
		return s.dial(ctx, dial, network, addr)
	}
}

func both(first, second VerifyFunc) VerifyFunc {
	if first == nil || second == nil {
		if first == nil {
			return second
		}
		return first
	}
	return func(ctx context.Context, cn *redis.Conn) error {
		if err := first(ctx, cn); err != nil {
			return err
		}
		return second(ctx, cn)
	}
}

func check(rdb redis.UniversalClient) (*redis.Client, error) {
	switch c := rdb.(type) {
	case nil:
		return nil, fmt.Errorf("%w: it is nil; %s", ErrUnsupported, instead)
	case *redis.Client:
		if c == nil {
			return nil, fmt.Errorf("%w: it is nil; %s", ErrUnsupported, instead)
		}
		if o := c.Options(); o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return nil, fmt.Errorf("%w: its client-side cache answers reads with values that may be old; "+
				"leave ClientSideCacheConfig and ClientSideCache unset", ErrUnsupported)
		}
		return c, nil
	case *redis.ClusterClient:
		return nil, fmt.Errorf("%w: *redis.ClusterClient: it leads to more than one server; use *redis.Client, or Node for each of them", ErrUnsupported)
	case *redis.Ring:
		return nil, fmt.Errorf("%w: *redis.Ring: its shards do not share a pub/sub, so invalidations would be lost; %s", ErrUnsupported, instead)
	default:
		return nil, fmt.Errorf("%w: %T: its connections cannot be derived; %s", ErrUnsupported, rdb, instead)
	}
}

type noDialKey struct{}

var errNoDial = errors.New("the subscription's connection is gone")

// WithoutDial returns a context under which subscriptions of clients from Derive open no connection (commands do: their
// pool dials under a context of its own). A go-redis subscription that loses
// its connection dials and subscribes again inside the very call that reports the loss; under this context it only
// reports it.
func WithoutDial(ctx context.Context) context.Context {
	return context.WithValue(ctx, noDialKey{}, true)
}

// Deadline returns ctx with the deadline at, without a timer. For calls that look at the deadline alone, such as a socket
// read, it costs nothing to make one for each.
func Deadline(ctx context.Context, at time.Time) context.Context { return deadline{ctx, at} }

type deadline struct {
	context.Context //nolint:containedctx // it is a context
	at              time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }
