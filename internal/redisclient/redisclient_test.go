package redisclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

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
		"nil":                       {nil, "it is nil; use *redis.Client, or *redis.ClusterClient"},
		"typed nil client":          {(*redis.Client)(nil), "it is nil; use *redis.Client, or *redis.ClusterClient"},
		"typed nil cluster client":  {(*redis.ClusterClient)(nil), "Cluster"},
		"typed nil ring":            {(*redis.Ring)(nil), "Ring"},
		"cluster client":            {cluster, "more than one server; use *redis.Client, or Node"},
		"ring":                      {ring, "invalidations would be lost; use *redis.Client, or *redis.ClusterClient"},
		"unknown type":              {unknown{plain}, "unknown"},
		"pointer to unknown type":   {&unknown{plain}, "cannot be derived; use *redis.Client, or *redis.ClusterClient"},
		"auto pipeliner":            {pipeliner, "AutoPipeliner"},
		"client-side cache":         {cached, "leave ClientSideCacheConfig and ClientSideCache unset"},
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
