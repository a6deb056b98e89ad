package tiered

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// miniredis does not know CLIENT TRACKING: the messages are the test's own.
func newTracked(t *testing.T, change ...func(*Options[int])) (*redisServer, *source, *Cache[int]) {
	t.Helper()
	r, s := newRedis(t), newSource()
	tracking := func(o *Options[int]) { o.Tracking, o.MaxStaleness = true, time.Minute }
	c := instance(t, r, s, append([]func(*Options[int]){tracking}, change...)...)
	eventually(t, "an epoch that is known", func() bool { return keeps(c) }) // or nobody joins, and L1 keeps nothing
	return r, s, c
}

// holdReads makes the reads of L2 that a judge makes stop before they reach it. It returns a channel that tells of each.
func (s *redisServer) holdReads() (reached <-chan struct{}, letGo func()) {
	at, gate := make(chan struct{}, 1000), make(chan struct{})
	s.intercept(func(cmd string, _ []string) error {
		if cmd == "HGET" {
			at <- struct{}{}
			<-gate
		}
		return nil
	})
	return at, sync.OnceFunc(func() {
		s.up()
		close(gate)
	})
}

// settled waits until Redis has been asked about everything that is in doubt.
func (f *foreign[V]) settled(t *testing.T) {
	t.Helper()
	eventually(t, "an end of doubts", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.doubted) == 0
	})
}

func TestAStrangersDeleteOfWhatL1Holds(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t)
	s.write("k")
	require.Equal(t, 1, get(t, c, "k"))
	c.foreign.judge([]string{"k"})
	require.NotNil(t, c.local.Get("k"), "Redis has it")

	r.Del(entryOf("k"))
	s.write("k")
	c.foreign.changed([]string{"nobody's", "", "k"})
	eventually(t, "the eviction", func() bool { return c.local.Get("k") == nil })
	require.Equal(t, 2, get(t, c, "k"))
	require.EqualValues(t, 1, c.Stats().Tracked)
}

// That the key is there again says nothing about what was read before.
func TestAStrangersDeleteOfWhatIsLoadedAnew(t *testing.T) {
	t.Parallel()
	r, s, a := newTracked(t)
	b := instance(t, r, s)
	require.Zero(t, get(t, a, "k"))

	reached, letGo := r.holdReads()
	defer letGo()
	r.Del(entryOf("k"))
	a.foreign.changed([]string{"k"})
	wait(t, "the check", reached)
	s.write("k")
	r.up() // for b; the check still stands
	require.Equal(t, 1, get(t, b, "k"))
	require.NotNil(t, a.local.Get("k"))
	letGo()
	eventually(t, "the eviction", func() bool { return a.local.Get("k") == nil })
	require.Equal(t, 1, get(t, a, "k"))
	require.EqualValues(t, 2, s.loads.Load())
}

func TestWhatRedisHasInsteadOfWhatL1Holds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(r *redisServer, c *Cache[int], s *source)
		kept   bool
	}{
		"nothing":      {func(r *redisServer, _ *Cache[int], _ *source) { r.Del(entryOf("k")) }, false},
		"no hash":      {func(r *redisServer, _ *Cache[int], _ *source) { r.Del(entryOf("k")); _ = r.Set(entryOf("k"), "mine") }, false},
		"no envelope":  {func(r *redisServer, c *Cache[int], _ *source) { r.HSet(entryOf("k"), c.schema.Field(), "mine") }, false},
		"an empty one": {func(r *redisServer, c *Cache[int], _ *source) { r.HSet(entryOf("k"), c.schema.Field(), "") }, false},
		"another's": {func(r *redisServer, c *Cache[int], _ *source) {
			r.HSet(entryOf("k"), c.schema.Field(), r.HGet(entryOf("o"), c.schema.Field()))
		}, false},
		"another field": {func(r *redisServer, _ *Cache[int], _ *source) { r.HSet(entryOf("k"), "mine", "x") }, true},
		"what is pending": {func(_ *redisServer, c *Cache[int], _ *source) {
			pendingOf(c, "k").add([]string{"k"}, time.Now().Add(time.Hour))
		}, false},
		"a breaker that is open": {func(_ *redisServer, c *Cache[int], _ *source) {
			for i := range tripAfter {
				breakerOf(c, "k").failed(fmt.Sprint(i))
			}
		}, false},
		"an epoch in doubt": {func(_ *redisServer, c *Cache[int], _ *source) { gateOf(c, "k").doubt() }, false},
		"an error": {func(r *redisServer, _ *Cache[int], _ *source) {
			r.intercept(func(string, []string) error { return errors.New("ERR no") })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s, c := newTracked(t)
			get(t, c, "o")
			get(t, c, "k")
			c.foreign.settled(t)
			e := c.local.Held("k", 0)
			require.NotNil(t, e)
			test.change(r, c, s)
			c.foreign.judge([]string{"k"})
			require.Equal(t, test.kept, c.local.Serves(e))
		})
	}
}

func TestAnAbsentKeyThatAStrangerStores(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t)
	other := instance(t, r, s)
	s.missing["k"] = true
	_, err := c.Get(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)
	c.foreign.judge([]string{"k"})
	require.NotNil(t, c.local.Get("k"), "Redis says the same")
	delete(s.missing, "k")
	r.Del(entryOf("k"))
	get(t, other, "k")
	c.foreign.judge([]string{"k"})
	require.Nil(t, c.local.Get("k"))
}

// A value that was read from L2 before a DEL is on its way into L1 when the message of it comes.
func TestAStrangersDeleteDuringARead(t *testing.T) {
	t.Parallel()
	ways := map[string]func(c *Cache[int]) error{
		"Get": func(c *Cache[int]) error { _, err := c.Get(soon(t), "k"); return err },
		"GetMany": func(c *Cache[int]) error {
			_, err := c.GetMany(soon(t), []string{"k", "l"})
			return err
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hold := &slowCodec{Codec: codec.Default, at: make(chan struct{}), gate: make(chan struct{})}
			r, s, c := newTracked(t, func(o *Options[int]) { o.Codec = hold })
			other := instance(t, r, s, func(o *Options[int]) { o.Codec = hold })
			for _, key := range []string{"k", "l"} {
				eventually(t, "what there is to be read", func() bool {
					_, err := other.Refresh(soon(t), key)
					return err == nil && r.HGet(entryOf(key), c.schema.Field()) != ""
				})
			}
			hold.once.Store(true) // the next Unmarshal stops
			got := make(chan error, 1)
			go func() { got <- way(c) }()
			wait(t, "the read", hold.at)
			s.write("k")
			r.Del(entryOf("k"))
			c.foreign.changed([]string{"k"}) // L1 has nothing yet
			close(hold.gate)
			require.NoError(t, wait(t, "the answer", got))
			eventually(t, "the eviction", func() bool { return c.local.Get("k") == nil && c.Stats().Tracked > 0 })
			require.Equal(t, 1, get(t, c, "k"))
		})
	}
}

// A lease and a fill of our own are told as well. L1 keeps what is loaded, and nobody loads again.
func TestOurOwnLeaseDuringALoad(t *testing.T) {
	t.Parallel()
	at, gate := make(chan struct{}), make(chan struct{})
	compare := &slowCodec{Codec: codec.Default, marshal: func() {
		close(at)
		<-gate
	}}
	_, s, c := newTracked(t, func(o *Options[int]) { o.Codec = compare })
	get(t, c, "other")
	c.foreign.settled(t)
	s.write("k")
	read, letGo := s.holdNext()
	defer letGo()
	first := getAsync(soon(t), c, "k")
	wait(t, "the load", read)
	c.foreign.changed([]string{"k"})
	second := getAsync(soon(t), c, "k")
	eventually(t, "the second to join", func() bool { return c.Stats().Joined == 1 })

	letCompare := sync.OnceFunc(func() { close(gate) })
	defer letCompare()
	compare.armed.Store(true)
	c.foreign.changed([]string{"other"})
	wait(t, "a check, behind which further ones wait", at)
	doubted := func() bool {
		c.foreign.mu.Lock()
		defer c.foreign.mu.Unlock()
		_, is := c.foreign.doubted["k"]
		return is
	}
	letGo()
	require.Equal(t, result{1, nil}, wait(t, "the first", first))
	require.Equal(t, result{1, nil}, wait(t, "the second", second))
	require.NotNil(t, c.local.Get("k"))
	require.False(t, doubted(), "what was told before the fill says nothing of what is there now")
	c.foreign.changed([]string{"k"})
	require.True(t, doubted())
	letCompare()
	c.foreign.settled(t)
	require.NotNil(t, c.local.Get("k"))
	require.EqualValues(t, 2, s.loads.Load())
	require.Zero(t, c.Stats().Tracked)
}

// The lease of a load must not take away what stands in for that load.
func TestTrackingAndAStandIn(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t, func(o *Options[int]) {
		o.MaxStaleness, o.TTL, o.LocalTTL = 2*time.Second, 2*time.Second, 2*time.Second
		o.StaleIfError, o.Jitter = time.Hour, Off
	})
	require.Zero(t, get(t, c, "k"))
	s.write("k")
	s.setErr(errSource)
	eventually(t, "the expiry", func() bool { return c.local.Get("k") == nil })
	r.intercept(func(cmd string, _ []string) error {
		if cmd == "EVALSHA" { // a lease
			c.foreign.changed([]string{"k"})
		}
		return nil
	})
	for range 3 {
		require.Zero(t, get(t, c, "k"), "the old value, for want of a load")
	}
	r.up()
	c.foreign.settled(t)
	e := c.local.Held("k", time.Hour)
	require.NotNil(t, e, "Redis has it too")
	r.Del(entryOf("k"))
	c.foreign.judge([]string{"k"})
	require.False(t, c.local.Stands(e), "and then not")
	_, err := c.Get(soon(t), "k")
	require.ErrorIs(t, err, errSource)
}

func TestRefreshUnderTracking(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t)
	require.Zero(t, get(t, c, "k"))
	r.intercept(func(cmd string, args []string) error {
		if cmd == "EVALSHA" && !isBeat(cmd, args) {
			c.foreign.changed([]string{"k"})
		}
		return nil
	})
	for v := 1; v < 20; v++ {
		s.write("k")
		got, err := c.Refresh(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, v, got)
		require.Equal(t, v, get(t, c, "k"), "it is replaced in this process")
	}
}

func TestMoreChangesThanCanBeAskedAbout(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t, func(o *Options[int]) { o.LocalBytes = 64 << 20 })
	keys := make([]string, maxDoubted+askAtOnce+2)
	for i := range keys {
		keys[i] = keyName(i)
		require.True(t, c.local.Put(keys[i], i, ticketOf(c, keys[i]), time.Hour))
	}
	require.NotNil(t, c.local.Get(keys[0]))
	reached, letGo := r.holdReads()
	defer letGo()
	c.foreign.changed(keys[:1])
	wait(t, "the check", reached)
	began := time.Now()
	c.foreign.changed(keys[1:])
	require.Less(t, time.Since(began), patience/2, "the receiver does not wait")
	for _, key := range keys {
		require.Nil(t, c.local.Get(key))
	}
	c.foreign.mu.Lock()
	left := len(c.foreign.doubted)
	c.foreign.mu.Unlock()
	require.Less(t, left, maxDoubted)
	letGo()
	s.write("k")
	require.Equal(t, 1, get(t, c, "k"))
	require.NotNil(t, c.local.Get("k"), "and L1 goes on")
}

func TestMessagesOfOneKeyAreAskedAboutOnce(t *testing.T) {
	t.Parallel()
	r, _, c := newTracked(t)
	get(t, c, "k")
	c.foreign.settled(t)
	reached, letGo := r.holdReads()
	defer letGo()
	c.foreign.changed([]string{"k"})
	wait(t, "the check", reached)
	commands := readsOf(c, "k").Commands()
	for range 100 {
		c.foreign.changed([]string{"k"})
	}
	letGo()
	eventually(t, "another check", func() bool { return readsOf(c, "k").Commands() == commands+1 })
	c.foreign.settled(t)
	require.Equal(t, commands+1, readsOf(c, "k").Commands())
	require.NotNil(t, c.local.Get("k"))
}

// slowCodec stops an Unmarshal once, and can be told to misbehave in Marshal.
type slowCodec struct {
	codec.Codec
	once    atomic.Bool
	at      chan struct{}
	gate    chan struct{}
	marshal func()
	armed   atomic.Bool
}

func (s *slowCodec) Unmarshal(b []byte, v any) error {
	if s.once.CompareAndSwap(true, false) {
		close(s.at)
		<-s.gate
	}
	return s.Codec.Unmarshal(b, v)
}

func (s *slowCodec) Marshal(v any) ([]byte, error) {
	if s.armed.CompareAndSwap(true, false) {
		s.marshal()
	}
	return s.Codec.Marshal(v)
}

func TestACodecThatMisbehavesInAComparison(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(){"panics": func() { panic("codec") }, "exits": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := &slowCodec{Codec: codec.Default, marshal: misbehave}
			_, _, c := newTracked(t, func(o *Options[int]) { o.Codec = bad })
			for range 3 {
				get(t, c, "k")
				c.foreign.settled(t)
				require.NotNil(t, c.local.Get("k"))
				bad.armed.Store(true)
				c.foreign.changed([]string{"k"})
				eventually(t, "the eviction", func() bool { return c.local.Get("k") == nil })
			}
		})
	}
}

// A comparison that does not end costs L1's entries, and neither the receiver nor Close waits for it for long.
func TestACodecThatBlocksInAComparison(t *testing.T) {
	t.Parallel()
	at, gate := make(chan struct{}), make(chan struct{})
	bad := &slowCodec{Codec: codec.Default, marshal: func() {
		close(at)
		<-gate
	}}
	_, _, c := newTracked(t, func(o *Options[int]) {
		o.Codec, o.MaxStaleness, o.CloseTimeout = bad, 2*time.Second, 50*time.Millisecond
	})
	get(t, c, "k")
	get(t, c, "l")
	c.foreign.settled(t)
	bad.armed.Store(true)
	c.foreign.changed([]string{"k"})
	wait(t, "the comparison", at)
	c.foreign.changed([]string{"l"})
	eventually(t, "the end of patience", func() bool {
		c.foreign.mu.Lock()
		defer c.foreign.mu.Unlock()
		return c.foreign.stuck && c.local.Held("k", 0) == nil && c.local.Held("l", 0) == nil
	})
	c.local.Put("m", 1, ticketOf(c, "m"), time.Hour)
	c.foreign.changed([]string{"m"})
	require.Nil(t, c.local.Held("m", 0))
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	require.NoError(t, wait(t, "Close", closed))
	close(gate)
	wait(t, "its end", c.foreign.done)
}

func TestHealthOfTracking(t *testing.T) {
	t.Parallel()
	_, _, c := newTracked(t)
	require.False(t, c.Health().Tracking, "miniredis does not know it")
	get(t, c, "k")
	c.foreign.begin()
	require.True(t, c.Health().Tracking)
	require.Nil(t, c.local.Get("k"), "what came before it is not trusted")
	c.foreign.end()
	require.False(t, c.Health().Tracking)
}
