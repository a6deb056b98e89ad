package tiered

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
)

// setUnheard is a Set whose message goes where nobody listens.
func setUnheard(t *testing.T, c *Cache[int], key string, v int) {
	t.Helper()
	keys, err := remote.KeysFor(c.name)
	require.NoError(t, err)
	store := remote.New(controlOf(c)[0], remote.Options{Keys: keys, Schema: c.schema, DB: 99})
	payload, err := c.encode(key, v, nil)
	require.NoError(t, err)
	tr, known := gateOf(c, "k").known()
	require.True(t, known)
	env := remote.Envelope{
		Schema: c.schema, Epoch: tr.epoch, Payload: payload, Created: tr.now() + 1, Expires: tr.now() + time.Hour.Milliseconds(),
	}
	raw, err := env.Encode(key)
	require.NoError(t, err)
	message := pubsub.Message{Op: pubsub.Invalidate, Sender: "lost", Keys: []string{key}}.Encode()
	stored, err := store.Set(t.Context(), key, raw, time.Hour, tr.epoch, tr.now()+time.Hour.Milliseconds(), message)
	require.NoError(t, err)
	require.True(t, stored)
}

// sampled audits until it has compared an entry: a sample looks at a part of L1.
func sampled(t *testing.T, c *Cache[int]) (suspect[int], bool) {
	t.Helper()
	before := c.Stats().Audited
	for range 10_000 {
		if s, differs := c.auditOne(); c.Stats().Audited > before {
			return s, differs
		}
	}
	require.FailNow(t, "nothing was audited")
	panic("unreachable")
}

func TestAuditFindsALostInvalidation(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		eyes := &witness{}
		c := w.instance(t, observedBy(eyes), func(o *Options[int]) { o.AuditEvery = 10 * time.Millisecond })
		w.source.write("k")
		require.Equal(t, 1, get(t, c, "k"))
		time.Sleep(time.Second)
		require.Positive(t, c.Stats().Audited)

		setUnheard(t, c, "k", 2)
		time.Sleep(DefaultMaxStaleness)
		require.Equal(t, 1, get(t, c, "k"), "nobody has told it")
		require.Zero(t, c.Stats().Diverged, "that is within MaxStaleness")
		time.Sleep(time.Second)
		require.EqualValues(t, 1, c.Stats().Diverged)
		require.Equal(t, 2, get(t, c, "k"), "the audit has dropped it")
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, c.Stats().Diverged)

		require.Len(t, eyes.divergences, 1)
		d := eyes.divergences[0]
		require.Equal(t, "k", d.Key)
		require.InDelta(t, 4*time.Second, d.LocalAge, float64(time.Second))
		require.InDelta(t, 3*time.Second, d.RemoteAge, float64(time.Second))
	})
}

// With Acknowledge no entry's age vouches for it, and the audit knows it all the same: L2 may have what was loaded before.
func TestAuditKnowsHowOldAnEntryIs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) { o.Acknowledge = true })
		time.Sleep(time.Second)
		w.source.write("k")
		require.Equal(t, 1, get(t, c, "k"))
		require.InDelta(t, 0, mono.Now()-c.local.Get("k").At(), float64(time.Second))
		time.Sleep(time.Second)
		setUnheard(t, c, "k", 2)
		_, differs := sampled(t, c)
		require.True(t, differs)

		c.evict("k")
		time.Sleep(time.Second)
		v, err := c.loadAlone(alone(c, "k"), inLocal)
		require.NoError(t, err)
		require.Equal(t, 1, v)
		_, differs = sampled(t, c)
		require.False(t, differs, "it is younger than what Redis has")
	})
}

// Ordinary life has no divergence in it, whatever is on its way when.
func TestAuditOfOrdinaryLife(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		a := w.instance(t, func(o *Options[int]) { o.AuditEvery = time.Millisecond })
		b := w.instance(t, func(o *Options[int]) { o.AuditEvery = time.Millisecond })
		for i := range 500 {
			key := keyName(i % 7)
			get(t, a, key)
			get(t, b, key)
			switch i % 5 {
			case 0:
				require.NoError(t, a.Set(t.Context(), key, w.source.write(key)))
			case 1:
				w.source.write(key)
				require.NoError(t, b.Invalidate(t.Context(), key))
			case 2:
				_, err := a.Refresh(t.Context(), key)
				require.NoError(t, err)
			}
			time.Sleep(3 * time.Millisecond)
		}
		require.Greater(t, a.Stats().Audited+b.Stats().Audited, uint64(100))
		require.Zero(t, a.Stats().Diverged)
		require.Zero(t, b.Stats().Diverged)
	})
}

// The invalidation is on its way while Redis is read: the entry is a suspect, and gone before its time is over.
func TestAuditWhileAnInvalidationIsOnItsWay(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		w.source.write("k")
		get(t, c, "k")
		time.Sleep(time.Second)
		setUnheard(t, c, "k", 2)
		s, differs := sampled(t, c)
		require.True(t, differs)
		suspects := c.lookAgain([]suspect[int]{s})
		require.Len(t, suspects, 1, "its time is not over")
		w.redis.Publish(channelOf(c, "k"), string(pubsub.Message{Op: pubsub.Invalidate, Sender: "late", Keys: []string{"k"}}.Encode()))
		time.Sleep(DefaultMaxStaleness + time.Millisecond)
		require.Empty(t, c.lookAgain(suspects))
		require.Zero(t, c.Stats().Diverged)
	})
}

// The subscription is lost, and the invalidation with it: L1 is not trusted, so nothing is served that could diverge.
func TestAuditWhileTheSubscriptionIsLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		w.source.write("k")
		get(t, c, "k")
		time.Sleep(time.Second)
		setUnheard(t, c, "k", 2)
		s, differs := sampled(t, c)
		require.True(t, differs)
		w.cut.Store(true)
		w.redis.Server().SetPreHook(refuse)
		time.Sleep(10 * DefaultMaxStaleness)
		require.Empty(t, c.lookAgain([]suspect[int]{s}))
		require.Zero(t, c.Stats().Diverged)
		before := c.Stats().Audited
		_, differs = c.auditOne()
		require.False(t, differs)
		require.Equal(t, before, c.Stats().Audited, "without Redis nothing is audited")
		w.redis.Server().SetPreHook(nil)
		w.cut.Store(false)
		time.Sleep(time.Minute) // for the bubble to end with connections that are whole
	})
}

// What Redis has is older than what L1 has, which was loaded while Redis was not asked.
func TestAuditOfWhatIsYoungerThanRedis(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		setUnheard(t, c, "k", 1)
		time.Sleep(time.Second)
		breakerOf(c, "k").rest, breakerOf(c, "k").until = time.Hour, 1<<62
		breakerOf(c, "k").troubled.Store(true)
		w.source.write("k")
		w.source.write("k")
		require.Equal(t, 2, get(t, c, "k"), "loaded without Redis")
		breakerOf(c, "k").worked()
		_, differs := sampled(t, c)
		require.False(t, differs)
	})
}

// noisy writes the same value in other bytes each time.
type noisy struct{ codec.Codec }

func (noisy) Name() string { return "noisy" }

func (n noisy) Marshal(v any) ([]byte, error) {
	b, err := n.Codec.Marshal(v)
	return append([]byte{byte(rand.IntN(256)), byte(rand.IntN(256))}, b...), err
}

func (n noisy) Unmarshal(b []byte, v any) error {
	if len(b) < 2 {
		return errors.New("too short")
	}
	return n.Codec.Unmarshal(b[2:], v)
}

func TestAuditComparesValuesAndNotBytes(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) { o.Codec = noisy{codec.JSON} })
		w.source.write("k")
		get(t, c, "k")
		time.Sleep(time.Second)
		setUnheard(t, c, "k", 1)
		_, differs := sampled(t, c)
		require.False(t, differs)
		setUnheard(t, c, "k", 2)
		_, differs = sampled(t, c)
		require.True(t, differs)
	})
}

// That Redis has nothing says nothing; that it knows the key not to exist does.
func TestAuditOfWhatIsAbsent(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		w.source.mu.Lock()
		w.source.missing["k"] = true
		w.source.mu.Unlock()
		_, err := c.Get(t.Context(), "k")
		require.ErrorIs(t, err, ErrNotFound)
		time.Sleep(time.Second)
		_, differs := sampled(t, c)
		require.False(t, differs)
		time.Sleep(time.Second)
		setUnheard(t, c, "k", 1)
		_, differs = sampled(t, c)
		require.True(t, differs)
		keys, err := remote.KeysFor(c.name)
		require.NoError(t, err)
		require.True(t, w.redis.Del(keys.Entry("k")))
		before := c.Stats().Audited
		for range 100 {
			_, differs = c.auditOne()
			require.False(t, differs)
		}
		require.Equal(t, before, c.Stats().Audited)
	})
}

// wildCodec does what a test wants before it encodes.
type wildCodec struct {
	codec.Codec
	act atomic.Pointer[func()]
}

func (*wildCodec) Name() string { return "wild" }

func (w *wildCodec) set(f func()) { w.act.Store(&f) }

func (w *wildCodec) Marshal(v any) ([]byte, error) {
	if f := w.act.Load(); f != nil && *f != nil {
		(*f)()
	}
	return w.Codec.Marshal(v)
}

// A codec that blocks holds up the audit alone, and Close no longer than CloseTimeout; one that panics costs nothing.
func TestAuditAndUserCode(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	release, blocked := make(chan struct{}), make(chan struct{}, 100)
	wild := &wildCodec{Codec: codec.JSON}
	c := instance(t, r, s, func(o *Options[int]) {
		o.Codec, o.AuditEvery, o.CloseTimeout = wild, time.Millisecond, 20*time.Millisecond
	})
	get(t, c, "k")
	panicked := make(chan struct{}, 100)
	wild.set(func() {
		select {
		case panicked <- struct{}{}:
		default:
		}
		panic("no")
	})
	wait(t, "the audit", panicked)
	wild.set(func() { blocked <- struct{}{}; <-release })
	wait(t, "the audit", blocked)
	wild.set(nil)
	require.Equal(t, 0, get(t, c, "l"))
	require.NoError(t, c.Close())
	close(release)
	<-c.auditDone
}

func TestAuditIsOffByDefault(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	require.Nil(t, c.auditDone)
	_, err := New(r.client(t), "things", Options[int]{AuditEvery: time.Microsecond})
	require.ErrorContains(t, err, "Options.AuditEvery is 1µs, must be at least 1ms")
}
