package tiered

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func TestBadOptionsAreNamedAllAtOnce(t *testing.T) {
	t.Parallel()
	rdb := newRedis(t).client(t)
	_, err := New(rdb, "bad name!", Options[int]{
		TTL: time.Second, LocalBytes: -1, MaxEntryBytes: -5, Jitter: 1, RedisTimeout: Off,
		MaxStaleness: 2 * time.Second, LoadTimeout: time.Microsecond, CloseTimeout: -time.Second,
		Codec: badName{codec.JSON},
	})
	require.ErrorIs(t, err, ErrInvalidOption)
	for _, part := range []string{
		`invalid cache name "bad name!"`,
		"Options.TTL is 1s, must be at least 2s (MaxStaleness)",
		"Options.LocalBytes is -1, must be at least 1048576",
		"Options.MaxEntryBytes is -5, must be from 1 to",
		"Options.Jitter is 1, must be below 1",
		"Options.RedisTimeout is -1ns, must be at least 1ms",
		"Options.LoadTimeout is 1µs, must be at least 1ms",
		"Options.CloseTimeout is -1s",
		"Options.Codec is",
	} {
		require.ErrorContains(t, err, part)
	}
}

type badName struct{ codec.Codec }

func (badName) Name() string { return "Not A Name" }

type panickingName struct{ codec.Codec }

func (panickingName) Name() string { panic("no name") }

func TestEachBadOption(t *testing.T) {
	t.Parallel()
	rdb := newRedis(t).client(t)
	for name, change := range map[string]func(*Options[int]){
		"MaxLoads":      func(o *Options[int]) { o.MaxLoads = -1 },
		"Jitter":        func(o *Options[int]) { o.Jitter = math.NaN() },
		"MaxStaleness":  func(o *Options[int]) { o.MaxStaleness = 49 * time.Millisecond },
		"TTL":           func(o *Options[int]) { o.TTL = math.MaxInt64 },
		"LocalTTL":      func(o *Options[int]) { o.LocalTTL = 1 },
		"NotFoundTTL":   func(o *Options[int]) { o.NotFoundTTL = 1 },
		"LeaseWait":     func(o *Options[int]) { o.LeaseWait = 1 },
		"MaxEntryBytes": func(o *Options[int]) { o.MaxEntryBytes = 1 << 30 },
		"LocalBytes":    func(o *Options[int]) { o.LocalBytes = 1 },
		"Codec":         func(o *Options[int]) { o.Codec = panickingName{codec.JSON} },
	} {
		var o Options[int]
		change(&o)
		_, err := New(rdb, "ok", o)
		require.ErrorIs(t, err, ErrInvalidOption, name)
		require.ErrorContains(t, err, "Options."+name)
	}
}

func TestBadClients(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})
	defer cluster.Close()
	csc := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ClientSideCacheConfig: &redis.ClientSideCacheConfig{MaxEntries: 10}})
	defer csc.Close()
	for name, rdb := range map[string]redis.UniversalClient{
		"nil": nil, "typed nil": (*redis.Client)(nil), "ring": ring, "cluster with replica reads": cluster, "client-side cache": csc,
	} {
		_, err := New(rdb, "x", Options[int]{})
		require.ErrorIs(t, err, ErrUnsupportedClient, name)
		_, err = NewBus(rdb, nil)
		require.ErrorIs(t, err, ErrUnsupportedClient, name)
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	ctx := soon(t)
	long := strings.Repeat("k", 8<<10+1)
	for _, key := range []string{"", long} {
		_, err := c.Get(ctx, key)
		require.ErrorIs(t, err, ErrInvalidKey)
		_, err = c.GetWith(ctx, key, GetOptions[int]{})
		require.ErrorIs(t, err, ErrInvalidKey)
		_, err = c.Refresh(ctx, key)
		require.ErrorIs(t, err, ErrInvalidKey)
		require.ErrorIs(t, c.Set(ctx, key, 1), ErrInvalidKey)
	}
	_, err := c.Get(ctx, long)
	require.ErrorContains(t, err, "8193 bytes, at most 8192")
	require.Zero(t, s.loads.Load())

	// The good keys among the bad ones are not lost.
	get(t, c, "good")
	s.write("good")
	err = c.Invalidate(ctx, "", "good")
	require.ErrorIs(t, err, ErrInvalidKey)
	require.NotErrorIs(t, err, ErrPending)
	require.Equal(t, 1, get(t, c, "good"))

	for _, key := range []string{"\x00", "}:k:{", strings.Repeat("k", 8<<10), "a\nb c", "\xff\xfe"} {
		require.Equal(t, 0, get(t, c, key))
		s.write(key)
		require.NoError(t, c.Invalidate(ctx, key))
		require.Equal(t, 1, get(t, c, key), "any bytes are a key")
	}
}

func TestTTLs(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	ctx := soon(t)
	redisTTL := func(key string) time.Duration { return r.TTL("tandem:{things}:k:" + key) }
	c := instance(t, r, s, func(o *Options[int]) {
		o.Jitter = Off
		o.TTL = time.Hour
		o.TTLFor = func(key string, _ int) time.Duration {
			switch key {
			case "long":
				return 5 * time.Hour
			case "never":
				return Off
			case "short":
				return time.Millisecond
			case "panic":
				panic("no TTL")
			}
			return 0
		}
	})
	get(t, c, "k")
	require.Equal(t, time.Hour, redisTTL("k"))
	get(t, c, "long")
	require.Equal(t, 5*time.Hour, redisTTL("long"))
	_, err := c.GetWith(ctx, "percall", GetOptions[int]{TTL: 2 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, redisTTL("percall"))
	require.NoError(t, c.SetWith(ctx, "long", 1, SetOptions{TTL: 3 * time.Hour}))
	require.Equal(t, 3*time.Hour, redisTTL("long"))
	require.NoError(t, c.Set(ctx, "long", 1))
	require.Equal(t, 5*time.Hour, redisTTL("long"))

	for _, key := range []string{"never", "short", "panic"} {
		get(t, c, key)
		get(t, c, key)
		require.False(t, r.Exists("tandem:{things}:k:"+key), key)
	}
	require.EqualValues(t, 9, s.loads.Load(), "what is not stored is loaded each time")
	require.EqualValues(t, 4, c.Stats().Unstored, "a bad TTL and a panic count, a wish does not")
	require.NoError(t, c.Set(ctx, "never", 1), "it invalidates")
	require.ErrorIs(t, c.Set(ctx, "short", 1), ErrInvalidOption)
	require.ErrorContains(t, c.Set(ctx, "panic", 1), "Options.TTLFor panicked: no TTL")

	_, err = c.GetWith(ctx, "k", GetOptions[int]{TTL: time.Second})
	require.ErrorIs(t, err, ErrInvalidOption)
	require.ErrorContains(t, err, "GetOptions.TTL is 1s, must be from 2s (MaxStaleness)")
	require.ErrorIs(t, c.SetWith(ctx, "k", 1, SetOptions{TTL: -1}), ErrInvalidOption)
}

func TestJitter(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.TTL, o.Jitter = time.Hour, 0.5 })
	seen := map[time.Duration]bool{}
	for i := range 50 {
		get(t, c, keyName(i))
		ttl := r.TTL("tandem:{things}:k:" + keyName(i))
		require.LessOrEqual(t, ttl, time.Hour)
		require.GreaterOrEqual(t, ttl, 30*time.Minute)
		seen[ttl] = true
	}
	require.Greater(t, len(seen), 40)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { *o = Options[int]{Load: s.load, Logger: quietLog()} })
	o := c.opts
	require.Equal(t, []time.Duration{
		DefaultTTL, DefaultLocalTTL, DefaultNotFoundTTL, DefaultMaxStaleness, DefaultLoadTimeout, DefaultRedisTimeout,
		DefaultLeaseWait, DefaultCloseTimeout,
	}, []time.Duration{
		o.TTL, o.LocalTTL, o.NotFoundTTL, o.MaxStaleness, o.LoadTimeout, o.RedisTimeout, o.LeaseWait, o.CloseTimeout,
	})
	require.InDelta(t, DefaultJitter, o.Jitter, 0)
	require.Equal(t, []int{DefaultMaxEntryBytes, DefaultPipelines}, []int{o.MaxEntryBytes, o.Pipelines})
	require.Equal(t, codec.Default.Name(), o.Codec.Name())
	require.EqualValues(t, DefaultLocalBytes, c.Stats().LocalLimit)
	require.Zero(t, max(o.RefreshAfter, o.StaleIfError, o.SoftTimeout, o.AuditEvery), "off until asked for")
}

func TestLocalTTLOff(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.LocalTTL = Off })
	for range 5 {
		get(t, c, "k")
	}
	require.EqualValues(t, 1, s.loads.Load())
	require.Zero(t, c.Stats().LocalHits)
	require.EqualValues(t, 4, c.Stats().RemoteHits)
}

// A Set that fails before Redis has still replaced what is stored (B4 of the review).
func TestASetThatCannotBeStoredInvalidates(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	version := "old"
	f := make([]*Cache[string], 2)
	for i := range f {
		c, err := New(r.client(t), "texts", Options[string]{
			Load:          func(context.Context, string) (string, error) { return version, nil },
			MaxEntryBytes: 200, LocalBytes: 1 << 20, Logger: quietLog(),
		})
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.Ready(soon(t)))
		f[i] = c
	}
	ctx := soon(t)
	for _, c := range f {
		v, err := c.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "old", v)
	}
	version = strings.Repeat("new", 100)
	err := f[0].Set(ctx, "k", version)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, `key "k" has 361 bytes, Options.MaxEntryBytes is 200`)
	for _, c := range f {
		eventually(t, "the new one", func() bool {
			v, err := c.Get(ctx, "k")
			return err == nil && v == version
		})
	}
	require.Positive(t, f[0].Stats().Unstored, "Get returns what cannot be stored")
}

// A type that the codec would not keep is refused by New and not by every Set.
func TestATypeThatTheCodecDoesNotKeep(t *testing.T) {
	t.Parallel()
	type handler struct{ Do func() }
	_, err := New(newRedis(t).client(t), "handlers", Options[handler]{})
	require.ErrorIs(t, err, ErrInvalidOption)
	require.ErrorContains(t, err, "Options.Codec")
	require.ErrorContains(t, err, "Do")
}

func TestAnInterfaceAsValue(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c, err := New(r.client(t), "anything", Options[any]{LocalTTL: Off, LocalBytes: 1 << 20, RedisTimeout: 2 * time.Second, Logger: quietLog(),
		Load: func(_ context.Context, key string) (any, error) {
			if key == "struct" {
				return struct{ A int }{1}, nil
			}
			return map[string]any{"n": int64(1)}, nil
		}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Ready(soon(t)))
	for range 2 {
		v, err := c.Get(soon(t), "map")
		require.NoError(t, err)
		require.Equal(t, map[string]any{"n": int64(1)}, v)
	}
	require.EqualValues(t, 1, c.Stats().RemoteHits)
	for range 2 {
		v, err := c.Get(soon(t), "struct")
		require.NoError(t, err)
		require.Equal(t, struct{ A int }{1}, v, "what would not come back as it was is not stored")
	}
	require.EqualValues(t, 2, c.Stats().Unstored)
}

type brokenCodec struct {
	codec.Codec
	fail, crash bool
}

func (b *brokenCodec) Marshal(v any) ([]byte, error) {
	switch {
	case b.crash:
		panic("codec")
	case b.fail:
		return nil, errors.New("not encodable")
	}
	return b.Codec.Marshal(v)
}

func (b *brokenCodec) Unmarshal(data []byte, v any) error {
	switch {
	case b.crash:
		panic("codec")
	case b.fail:
		return errors.New("not decodable")
	}
	return b.Codec.Unmarshal(data, v)
}

func TestABrokenCodec(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	good := instance(t, r, s, func(o *Options[int]) { o.Codec = codec.JSON })
	for name, b := range map[string]*brokenCodec{"fails": {codec.JSON, true, false}, "panics": {codec.JSON, false, true}} {
		t.Run(name, func(t *testing.T) {
			c := instance(t, r, s, func(o *Options[int]) { o.Codec = b })
			get(t, good, "k")
			require.Equal(t, s.version("k"), get(t, c, "k"), "an undecodable entry is a miss")
			require.Positive(t, c.Stats().BadEntries)
			require.Positive(t, c.Stats().Unstored)
			require.ErrorIs(t, c.Set(soon(t), "k", 1), ErrEncode)
		})
	}
}

func TestACostThatPanics(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.Cost = func(int) int64 { panic("cost") } })
	require.Equal(t, 0, get(t, c, "k"))
	require.NotNil(t, c.local.Get("k"))
}
