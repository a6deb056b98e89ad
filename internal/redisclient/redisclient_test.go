package redisclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/redisclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

func given(t *testing.T, opt redis.Options) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&opt)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func derive(t *testing.T, rdb redis.UniversalClient) *redisclient.Client {
	t.Helper()
	d, err := redisclient.Derive(rdb, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// blackhole returns the address of a server that accepts connections and never says a word.
func blackhole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var accepting sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

// line is a Dialer that knows how many connections it has made, and how many of them are open.
type line struct {
	dialled, open atomic.Int64
	peak          atomic.Int64
	last          atomic.Pointer[lineConn]
}

func (l *line) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.dialled.Add(1)
	n := l.open.Add(1)
	for old := l.peak.Load(); n > old && !l.peak.CompareAndSwap(old, n); old = l.peak.Load() {
	}
	c := &lineConn{Conn: conn, closed: sync.OnceFunc(func() { l.open.Add(-1) })}
	l.last.Store(c)
	return c, nil
}

type lineConn struct {
	net.Conn
	closed func()
}

func (c *lineConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// Hangup says goodbye to the server, which then ends the connection.
func (c *lineConn) Hangup() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// within runs f under a context of that length a few times, and requires that it returns within about twice that each
// time. Since the machine may be busy, the shortest of the runs is what is held against it.
func within(t *testing.T, bound time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	shortest := time.Duration(1<<63 - 1)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		began := time.Now()
		err := f(ctx)
		shortest = min(shortest, time.Since(began))
		cancel()
		require.Error(t, err)
		if shortest < 2*bound {
			return
		}
	}
	require.Less(t, shortest, 2*bound)
}

type unknown struct{ redis.UniversalClient }

func TestDeriveRefusesWhatCannotKeepTheContract(t *testing.T) {
	t.Parallel()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = cluster.Close() })
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, HeartbeatFrequency: time.Hour})
	t.Cleanup(func() { _ = ring.Close() })
	plain := given(t, redis.Options{Addr: "127.0.0.1:1"})
	cached := given(t, redis.Options{Addr: "127.0.0.1:1", ClientSideCacheConfig: &redis.ClientSideCacheConfig{}})
	shared := given(t, redis.Options{
		Addr: "127.0.0.1:1", ClientSideCache: redis.NewLocalCache(redis.ClientSideCacheConfig{}),
	})
	pipeliner, err := plain.AutoPipeline()
	require.NoError(t, err)

	for name, tc := range map[string]struct {
		rdb  redis.UniversalClient
		says string
	}{
		"nil":                       {nil, "it is nil"},
		"typed nil client":          {(*redis.Client)(nil), "it is nil"},
		"typed nil cluster client":  {(*redis.ClusterClient)(nil), "Cluster"},
		"typed nil ring":            {(*redis.Ring)(nil), "Ring"},
		"cluster client":            {cluster, "Redis Cluster is not supported yet"},
		"ring":                      {ring, "shards"},
		"unknown type":              {unknown{plain}, "unknown"},
		"pointer to unknown type":   {&unknown{plain}, "unknown"},
		"auto pipeliner":            {pipeliner, "AutoPipeliner"},
		"client-side cache":         {cached, "client-side cache"},
		"client-side cache, shared": {shared, "client-side cache"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := redisclient.Derive(tc.rdb, nil)
			require.ErrorIs(t, err, redisclient.ErrUnsupported)
			require.ErrorContains(t, err, tc.says)
			require.Nil(t, d)
		})
	}
}

func TestDerivedClientTalksToTheSameServerAsTheSameUser(t *testing.T) {
	t.Parallel()
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			m.RequireUserAuth("tom", "secret")
			var l line
			var connected atomic.Int64
			rdb := given(t, redis.Options{
				Addr: m.Addr(), DB: 3, Username: "tom", Password: "secret", ClientName: "app", Protocol: protocol, Dialer: l.Dial,
				OnConnect: func(context.Context, *redis.Conn) error { connected.Add(1); return nil },
			})
			d := derive(t, rdb)
			require.NoError(t, d.Set(t.Context(), "k", "v", 0).Err())
			require.EqualValues(t, 1, l.dialled.Load(), "through the same Dialer")
			require.EqualValues(t, 1, connected.Load(), "and OnConnect")
			require.Equal(t, "app", d.ClientGetName(t.Context()).Val())
			v, err := m.DB(3).Get("k")
			require.NoError(t, err)
			require.Equal(t, "v", v)

			ps := d.Subscribe(t.Context(), "c")
			defer func() { _ = ps.Close() }()
			m1, err := ps.ReceiveTimeout(t.Context(), patience)
			require.NoError(t, err)
			require.Equal(t, &redis.Subscription{Kind: "subscribe", Channel: "c", Count: 1}, m1)
			require.EqualValues(t, 1, d.Publish(t.Context(), "c", "hello").Val())
			m2, err := ps.ReceiveTimeout(t.Context(), patience)
			require.NoError(t, err)
			require.Equal(t, "hello", m2.(*redis.Message).Payload)
		})
	}
}

// changed are the options that Derive sets for itself, with what they come to.
func changed(rdb *redis.Client) map[string]any {
	return map[string]any{
		"ContextTimeoutEnabled":     true,
		"ReadTimeout":               time.Duration(0),
		"WriteTimeout":              time.Duration(0),
		"MaxRetries":                0,
		"DialerRetries":             1,
		"DialTimeout":               min(rdb.Options().DialTimeout, 2*time.Second),
		"MinIdleConns":              0,
		"PipelinePoolSize":          -1,
		"AutoPipelineOptions":       (*redis.AutoPipelineOptions)(nil),
		"Limiter":                   nil,
		"PushNotificationProcessor": nil,
	}
}

type limiter struct{ asked atomic.Int64 }

func (l *limiter) Allow() error       { l.asked.Add(1); return nil }
func (l *limiter) ReportResult(error) {}

// go-redis fills in defaults when a client is made, and some of what it fills in means something else when it is read a
// second time (-1 becomes 0, which becomes the default). So every option is compared.
func TestDerivedClientHasEveryOtherOptionOfTheGivenOne(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]redis.Options{
		"defaults": {Addr: "127.0.0.1:1"},
		"all set": {
			Network: "tcp", Addr: "127.0.0.1:1", NodeAddress: "10.0.0.1:1", ClientName: "app", Protocol: 2, Username: "u", Password: "p", DB: 7,
			MaxRetries: 5, DialTimeout: time.Second, DialerRetries: 7, DialerRetryTimeout: time.Second,
			ReadTimeout: time.Second, WriteTimeout: time.Second, PoolFIFO: true, PoolSize: 3, PoolTimeout: time.Second,
			MinIdleConns: 0, MaxIdleConns: 2, MaxActiveConns: 3, MaxConcurrentDials: 2,
			ConnMaxIdleTime: time.Minute, ConnMaxLifetime: time.Hour, ConnMaxLifetimeJitter: time.Minute,
			ReadBufferSize: 1 << 16, WriteBufferSize: 1 << 16,
			TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13}, Limiter: &limiter{}, DisableIdentity: true, IdentitySuffix: "x",
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		},
		"none": {
			Addr: "127.0.0.1:1", ReadTimeout: -1, WriteTimeout: -1, MaxRetries: -1, ConnMaxIdleTime: -1, PoolTimeout: -1,
			ConnMaxLifetime: -1, DialTimeout: time.Minute, PipelinePoolSize: -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := given(t, opt)
			before := *rdb.Options()
			maint := *before.MaintNotificationsConfig
			d := derive(t, rdb)
			want := changed(rdb)
			of := func(o *redis.Options, name string) any {
				f := reflect.ValueOf(o).Elem().FieldByName(name)
				if f.Kind() == reflect.Func {
					return f.Pointer()
				}
				return f.Interface()
			}
			for f := range reflect.TypeFor[redis.Options]().Fields() {
				switch {
				case !f.IsExported() || f.Name == "Dialer" || f.Name == "MaintNotificationsConfig":
				case f.Name == "PushNotificationProcessor":
					require.NotNil(t, d.Options())
				default:
					expected, overridden := want[f.Name]
					if !overridden {
						expected = of(rdb.Options(), f.Name)
					}
					require.Equal(t, expected, of(d.Options(), f.Name), f.Name)
				}
				if f.IsExported() {
					require.Equal(t, of(&before, f.Name), of(rdb.Options(), f.Name), "Derive changed the given client's %s", f.Name)
				}
			}
			require.Equal(t, maintnotifications.ModeDisabled, d.Options().MaintNotificationsConfig.Mode)
			require.Equal(t, maint, *rdb.Options().MaintNotificationsConfig)
		})
	}
}

func TestGivenClientStaysOpenAndItsOwn(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l limiter
	rdb := given(t, redis.Options{Addr: m.Addr(), Limiter: &l})
	d, err := redisclient.Derive(rdb, nil)
	require.NoError(t, err)
	require.NoError(t, d.Ping(t.Context()).Err())
	require.Zero(t, l.asked.Load(), "the limiter is the owner's")
	require.Zero(t, rdb.PoolStats().TotalConns, "and so is the pool")
	require.NoError(t, d.Close())
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NotZero(t, l.asked.Load())

	d = derive(t, rdb)
	require.NoError(t, rdb.Close())
	require.NoError(t, d.Ping(t.Context()).Err(), "a derived client does not end with the given one")
}

func TestDeriveOpensNoConnection(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l line
	rdb := given(t, redis.Options{Addr: m.Addr(), Dialer: l.Dial, MinIdleConns: 4})
	require.Eventually(t, func() bool { return l.dialled.Load() == 4 }, patience, time.Millisecond)
	d := derive(t, rdb)
	require.NoError(t, d.Ping(t.Context()).Err())
	require.EqualValues(t, 5, l.dialled.Load(), "one for the PING, none in advance")
}

func TestConcurrentDerive(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	rdb := given(t, redis.Options{Addr: m.Addr()})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			d, err := redisclient.Derive(rdb, nil)
			if err == nil {
				err = errors.Join(d.Ping(context.Background()).Err(), rdb.Ping(context.Background()).Err(), d.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Nothing in this client is repeated, also not what go-redis thinks harmless.
func TestDerivedClientRepeatsNothing(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var sent atomic.Int64
	m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		if cmd != "GET" {
			return false
		}
		if sent.Add(1)%2 == 0 {
			p.Close()
		} else {
			p.WriteError("LOADING Redis is loading the dataset in memory")
		}
		return true
	})
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), MaxRetries: 10}))
	for i := 1; i <= 4; i++ {
		require.Error(t, d.Get(t.Context(), "k").Err())
		require.EqualValues(t, i, sent.Load())
	}
}

// The given client's own settings would make it wait for five seconds here, and then for a hundred.
func TestWaitsObeyTheContextOnAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	addr := blackhole(t)
	for name, opt := range map[string]redis.Options{
		"defaults": {Addr: addr},
		"patient":  {Addr: addr, ReadTimeout: time.Hour, WriteTimeout: time.Hour, DialTimeout: time.Hour, PoolTimeout: time.Hour, MaxRetries: 10},
		"for ever": {Addr: addr, ReadTimeout: -1, WriteTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := given(t, opt)
			require.False(t, rdb.Options().ContextTimeoutEnabled)
			d := derive(t, rdb)
			within(t, 300*time.Millisecond, func(ctx context.Context) error { return d.Get(ctx, "k").Err() })
			within(t, 300*time.Millisecond, func(ctx context.Context) error {
				ps := d.Subscribe(context.Background())
				defer func() { _ = ps.Close() }()
				return ps.Subscribe(ctx, "c")
			})
		})
	}
}

func TestWaitsObeyTheContextOnAConnectionThatWentSilent(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := derive(t, given(t, redis.Options{Addr: m.Addr()}))
	require.NoError(t, d.Ping(t.Context()).Err())
	m.Server().SetPreHook(func(*server.Peer, string, ...string) bool { return true })
	within(t, 300*time.Millisecond, func(ctx context.Context) error { return d.Get(ctx, "k").Err() })
}

func TestWaitsObeyTheContextWhileDialling(t *testing.T) {
	t.Parallel()
	rdb := given(t, redis.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done() // a SYN that nobody answers
		return nil, ctx.Err()
	}})
	d := derive(t, rdb)
	within(t, 300*time.Millisecond, func(ctx context.Context) error { return d.Get(ctx, "k").Err() })
	within(t, 300*time.Millisecond, func(ctx context.Context) error {
		ps := d.Subscribe(context.Background())
		defer func() { _ = ps.Close() }()
		return ps.Subscribe(ctx, "c")
	})
}

// A dialer may look at no context. Whoever waits for it does, and what it brings when nobody wants it any more is closed.
func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l line
	gate := make(chan struct{})
	rdb := given(t, redis.Options{Addr: m.Addr(), Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
		<-gate
		return l.Dial(context.Background(), network, addr)
	}})
	d := derive(t, rdb)
	within(t, 300*time.Millisecond, func(ctx context.Context) error {
		ps := d.Subscribe(context.Background())
		defer func() { _ = ps.Close() }()
		return ps.Subscribe(ctx, "c")
	})
	require.Zero(t, l.dialled.Load())
	close(gate)
	require.Eventually(t, func() bool { return l.dialled.Load() > 0 && l.open.Load() == 0 }, patience, time.Millisecond)
	require.NoError(t, d.Ping(t.Context()).Err(), "the next one is wanted")
}

// A dial outlives the call that asked for it, since go-redis would like to keep the connection; but not for long.
func TestDialsInTheBackgroundAreBounded(t *testing.T) {
	t.Parallel()
	left := make(chan time.Duration, 16)
	rdb := given(t, redis.Options{DialTimeout: time.Hour, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		at, ok := ctx.Deadline()
		if !ok {
			at = time.Now().Add(time.Hour)
		}
		left <- time.Until(at)
		return nil, errors.New("refused")
	}})
	d := derive(t, rdb)
	require.Error(t, d.Get(context.Background(), "k").Err())
	require.LessOrEqual(t, <-left, 2*time.Second)
	require.Empty(t, left, "tried once")
}

// With TLS, go-redis' own dialer does not look at the context at all: a server that accepts connections and does not
// shake hands keeps whoever subscribes for the given client's DialTimeout.
func TestWaitsObeyTheContextInATLSHandshake(t *testing.T) {
	t.Parallel()
	addr := blackhole(t)
	rdb := given(t, redis.Options{Addr: addr, DialTimeout: 1500 * time.Millisecond, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}})
	t.Run("command", func(t *testing.T) {
		t.Parallel()
		d := derive(t, rdb)
		within(t, 300*time.Millisecond, func(ctx context.Context) error { return d.Get(ctx, "k").Err() })
	})
	t.Run("subscription", func(t *testing.T) {
		t.Parallel()
		d := derive(t, rdb)
		within(t, 300*time.Millisecond, func(ctx context.Context) error {
			ps := d.Subscribe(context.Background())
			defer func() { _ = ps.Close() }()
			return ps.Subscribe(ctx, "c")
		})
	})
}

// The wait of a command is bounded without leaving anything behind for it. Not parallel: it counts the process's goroutines.
func TestTimedOutCallsLeaveNothingBehind(t *testing.T) {
	const calls, rounds, poolSize = 200, 3, 8
	var l line
	rdb := given(t, redis.Options{Addr: blackhole(t), Dialer: l.Dial, PoolSize: poolSize})
	d := derive(t, rdb)
	before := runtime.NumGoroutine()
	for range rounds {
		var wg sync.WaitGroup
		began := time.Now()
		for range calls {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				defer cancel()
				if err := d.Get(ctx, "k").Err(); err == nil {
					t.Error("a blackhole answered")
				}
			})
		}
		wg.Wait()
		require.Less(t, time.Since(began), 3*time.Second)
		require.Eventually(t, func() bool { return l.open.Load() <= poolSize }, patience, time.Millisecond,
			"connections do not add up from round to round")
	}
	// The pool gives a place away a moment before it closes the connection that had it.
	require.LessOrEqual(t, l.peak.Load(), int64(2*poolSize))
	// Eventually has a goroutine of its own for the condition.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, patience, 10*time.Millisecond, "goroutines of the calls")
	require.NoError(t, d.Close())
	require.Eventually(t, func() bool { return l.open.Load() == 0 }, patience, 10*time.Millisecond, "connections after Close")
}

func TestSubscriptionsThatTimedOutLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	var l line
	d := derive(t, given(t, redis.Options{Addr: blackhole(t), Dialer: l.Dial}))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			ps := d.Subscribe(ctx)
			if err := errors.Join(ps.Subscribe(ctx, "c"), ps.Close()); err == nil {
				t.Error("a blackhole answered")
			}
		})
	}
	wg.Wait()
	require.Zero(t, l.open.Load())
}

func TestWithoutDialASubscriptionOnlyReportsThatItsConnectionIsGone(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l line
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: l.Dial}))
	ctx := redisclient.WithoutDial(t.Context())

	ps := d.Subscribe(t.Context())
	defer func() { _ = ps.Close() }()
	require.Error(t, ps.Subscribe(ctx, "c"), "there is no connection yet, and none is opened")
	require.Zero(t, l.dialled.Load())

	require.NoError(t, ps.Subscribe(t.Context(), "c"))
	for range 2 { // "c" from the refused call is remembered, and subscribed with the connection
		_, err := ps.ReceiveTimeout(ctx, patience)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, l.dialled.Load())
	require.NoError(t, l.last.Load().Hangup())
	_, err := ps.ReceiveTimeout(ctx, patience)
	require.ErrorIs(t, err, io.EOF)
	for range 3 {
		_, err = ps.ReceiveTimeout(ctx, patience)
		require.ErrorContains(t, err, "the subscription's connection is gone")
		require.ErrorContains(t, ps.Subscribe(ctx, "d"), "the subscription's connection is gone")
	}
	require.EqualValues(t, 1, l.dialled.Load())
}

func TestWithoutDialTheGivenClientDials(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	rdb := given(t, redis.Options{Addr: m.Addr()})
	derive(t, rdb)
	ps := rdb.Subscribe(redisclient.WithoutDial(t.Context()), "c")
	defer func() { _ = ps.Close() }()
	_, err := ps.ReceiveTimeout(redisclient.WithoutDial(t.Context()), patience)
	require.NoError(t, err)
}

type contextKey struct{}

func TestDeadline(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "value"))
	at := time.Now().Add(time.Hour)
	ctx := redisclient.Deadline(parent, at)
	got, ok := ctx.Deadline()
	require.True(t, ok)
	require.Equal(t, at, got)
	require.Equal(t, "value", ctx.Value(contextKey{}))
	require.NoError(t, ctx.Err())
	cancel()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestDeadlineBoundsARead(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := derive(t, given(t, redis.Options{Addr: m.Addr()}))
	ps := d.Subscribe(t.Context(), "c")
	defer func() { _ = ps.Close() }()
	_, err := ps.ReceiveTimeout(t.Context(), patience)
	require.NoError(t, err)
	began := time.Now()
	_, err = ps.ReceiveTimeout(redisclient.Deadline(redisclient.WithoutDial(t.Context()), time.Now().Add(100*time.Millisecond)), 0)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	require.Less(t, time.Since(began), patience/2)
}

// sentinel makes a miniredis answer for the master that it is told.
type sentinel struct {
	*miniredis.Miniredis
	master atomic.Pointer[string]
}

func newSentinel(t *testing.T, master string) *sentinel {
	t.Helper()
	s := &sentinel{Miniredis: miniredis.RunT(t)}
	s.master.Store(&master)
	require.NoError(t, s.Server().Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		if strings.EqualFold(args[0], "get-master-addr-by-name") {
			host, port, _ := net.SplitHostPort(*s.master.Load())
			c.WriteStrings([]string{host, port})
			return
		}
		c.WriteLen(0)
	}))
	return s
}

func TestAClientForSentinelFollowsTheMasterAfterAReset(t *testing.T) {
	t.Parallel()
	first, second := miniredis.RunT(t), miniredis.RunT(t)
	require.NoError(t, first.Set("who", "first"))
	require.NoError(t, second.Set("who", "second"))
	s := newSentinel(t, first.Addr())
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{s.Addr()}})
	t.Cleanup(func() { _ = rdb.Close() })
	d := derive(t, rdb)
	require.Equal(t, "first", d.Get(t.Context(), "who").Val())

	address := second.Addr()
	s.master.Store(&address)
	require.Equal(t, "first", d.Get(t.Context(), "who").Val(), "an open connection stays where it is")
	d.Reset()
	require.Equal(t, "second", d.Get(t.Context(), "who").Val())
}

func TestResetEndsCallsAndSubscriptionsAndNothingElse(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	l := &line{}
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: l.Dial}))
	ps := d.Subscribe(t.Context(), "c")
	t.Cleanup(func() { _ = ps.Close() })
	_, err := ps.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, d.Set(t.Context(), "k", "v", 0).Err())

	d.Reset()
	_, err = ps.ReceiveTimeout(redisclient.WithoutDial(t.Context()), patience)
	require.Error(t, err)
	for range 20 {
		require.Equal(t, "v", d.Get(t.Context(), "k").Val(), "a pooled connection that was closed is not handed out")
	}
}

func TestResetReachesAConnectionThatIsBeingDialled(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	dialling, let := make(chan struct{}), make(chan struct{})
	var dials atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			close(dialling)
			<-let
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}))
	failed := make(chan error, 1)
	go func() { failed <- d.Ping(t.Context()).Err() }()
	<-dialling
	d.Reset()
	close(let)
	require.ErrorContains(t, <-failed, "reset")
	require.NoError(t, d.Ping(t.Context()).Err())
}

func TestVerifyRefusesConnections(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var connected, verified atomic.Int64
	refuse := errors.New("not this one")
	rdb := given(t, redis.Options{Addr: m.Addr(), OnConnect: func(context.Context, *redis.Conn) error {
		connected.Add(1)
		return nil
	}})
	d, err := redisclient.Derive(rdb, func(ctx context.Context, cn *redis.Conn) error {
		if verified.Add(1) == 1 {
			return refuse
		}
		return cn.Ping(ctx).Err()
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	require.ErrorIs(t, d.Ping(t.Context()).Err(), refuse)
	require.NoError(t, d.Ping(t.Context()).Err())
	require.EqualValues(t, 2, connected.Load(), "the owner's own hook runs as well")
}

func TestTheOwnersHookMayMisbehave(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	misbehave := map[int64]func(){1: func() { panic("not today") }, 2: runtime.Goexit}
	var calls atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), OnConnect: func(context.Context, *redis.Conn) error {
		if f := misbehave[calls.Add(1)]; f != nil {
			f()
		}
		return nil
	}}))
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "OnConnect of the client panicked: not today")
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "OnConnect of the client called runtime.Goexit")
	require.NoError(t, d.Ping(t.Context()).Err())
}

// A dialer that hangs, whatever its context says, is not asked again and again.
func TestDialsThatHangAreBounded(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	defer close(let)
	var dials atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: "nowhere:1", PoolSize: 100, Dialer: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		<-let
		return nil, errors.New("nobody there")
	}, DialTimeout: time.Millisecond}))
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return strings.Contains(d.Ping(ctx).Err().Error(), "still hang")
	}, patience, time.Millisecond)
	require.LessOrEqual(t, dials.Load(), int64(32))
}
