package tiered

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote/codec"
)

func goodBeat(sent int64, epoch string) pubsub.BeatReport {
	return pubsub.BeatReport{Sent: sent, Received: mono.Now(), RedisNow: 1_000_000, Version: epoch}
}

const (
	epochA = "00000000000000aa"
	epochB = "00000000000000bb"
)

func TestGateFollowsTheHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2 * time.Second)
		o := g.look()
		require.False(t, o.open)
		require.NotNil(t, o.wait, "the first heartbeat is on its way")
		_, known := g.known()
		require.False(t, known)

		g.report(goodBeat(mono.Now(), epochA), nil)
		select {
		case <-o.wait:
		default:
			t.Fatal("who waits is told")
		}
		o = g.look()
		require.True(t, o.open && o.keep)
		require.EqualValues(t, 0xaa, o.epoch)

		time.Sleep(2 * time.Second)
		require.True(t, g.look().open, "at the bound")
		require.EqualValues(t, 1_002_000, o.now())
		time.Sleep(1)
		o = g.look()
		require.False(t, o.open, "past the bound")
		require.Nil(t, o.wait, "nothing is known to come")

		g.report(goodBeat(mono.Now(), epochA), nil)
		require.True(t, g.look().open)
		g.report(pubsub.BeatReport{Err: errors.New("READONLY"), Sent: mono.Now()}, nil)
		o = g.look()
		require.False(t, o.open, "a failed one closes at once")
		require.Error(t, o.err)
		g.report(goodBeat(mono.Now(), "not an epoch"), nil)
		require.False(t, g.look().open)
		g.report(goodBeat(mono.Now(), epochB), nil)
		require.True(t, g.look().open)
	})
}

func TestGateAfterANewEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2 * time.Second)
		early := mono.Now()
		g.report(goodBeat(early, epochA), nil)
		time.Sleep(time.Millisecond)
		g.shut()
		require.False(t, g.look().open)
		require.NotNil(t, g.look().wait)
		g.report(goodBeat(early, epochA), nil)
		require.False(t, g.look().open, "sent before")
		time.Sleep(time.Millisecond)
		g.report(goodBeat(mono.Now(), epochB), nil)
		require.True(t, g.look().open && g.look().keep)

		time.Sleep(time.Millisecond)
		g.doubt()
		require.True(t, g.look().open)
		require.False(t, g.look().keep, "it may be returned and not kept")
		time.Sleep(time.Millisecond)
		g.report(goodBeat(mono.Now(), epochB), nil)
		require.True(t, g.look().keep)
	})
}

// A Redis that answers reads and refuses writes (a demoted master) is not believed: what it holds may be long invalidated.
func TestGateARedisThatTakesNoWritesIsNotRead(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.LocalTTL = Off })
	require.Equal(t, 0, get(t, c, "k"))
	s.write("k") // somebody wrote, and invalidated on the real master
	require.Equal(t, 0, get(t, c, "k"), "from L2")
	r.intercept(func(cmd string, _ []string) error {
		if cmd == "EVALSHA" || cmd == "EVAL" {
			return errors.New("READONLY You can't write against a read only replica.")
		}
		return nil
	})
	eventually(t, "the gate closes", func() bool { return !c.Health().RemoteTrusted })
	require.Equal(t, 1, get(t, c, "k"), "from the source")
	reads := readsOf(c, "k").Commands()
	get(t, c, "k")
	require.Equal(t, reads, readsOf(c, "k").Commands(), "Redis is not even asked")
	require.Error(t, c.Health().RedisError)
	r.up()
	eventually(t, "the gate opens", func() bool { return c.Health().RemoteTrusted && c.Health().RedisError == nil })
}

// With Redis answering nothing at all, a Get costs its load and one RedisTimeout, however many trips it would make.
func TestGateOneBudgetForAFlight(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.MaxStaleness = time.Minute })
	get(t, c, "warm")
	release := make(chan struct{})
	defer close(release)
	r.intercept(func(cmd string, args []string) error {
		if !isBeat(cmd, args) {
			<-release
		}
		return nil
	})
	began := time.Now()
	require.Equal(t, 0, get(t, c, "k"))
	require.Less(t, time.Since(began), 2*c.opts.RedisTimeout)
	require.EqualValues(t, 1, c.Stats().Fills, "the warm one")
	require.NotNil(t, c.local.Get("k"), "L1 keeps what was loaded")
}

// The epoch that was known before is of no use to the very next read.
func TestGateAfterInvalidateAll(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	for range 20 { // of which a heartbeat may come in between once
		began := mono.Now()
		require.NoError(t, c.InvalidateAll(soon(t)))
		if o := gateOf(c, "k").look(); o.open {
			require.Greater(t, o.sent, began)
		}
		eventually(t, "a heartbeat", func() bool { return gateOf(c, "k").look().open })
	}
}

// Two value types under one name: what one cache has stored is never decoded as the other's.
func TestTwoTypesUnderOneName(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	type Cents struct{ Amount int }
	type Euros struct{ Sum int } // decodes from Cents' JSON without an error, as zero
	cents, err := New(r.client(t), "prices", Options[Cents]{
		Codec: codec.JSON, Logger: quietLog(), LocalTTL: Off, LocalBytes: 1 << 20, RedisTimeout: 2 * time.Second,
		Load: func(context.Context, string) (Cents, error) { return Cents{100}, nil },
	})
	require.NoError(t, err)
	defer cents.Close()
	euros, err := New(r.client(t), "prices", Options[Euros]{
		Codec: codec.JSON, Logger: quietLog(), LocalTTL: Off, LocalBytes: 1 << 20, RedisTimeout: 2 * time.Second,
		Load: func(context.Context, string) (Euros, error) { return Euros{1}, nil },
	})
	require.NoError(t, err)
	defer euros.Close()
	require.NoError(t, cents.Ready(soon(t)))
	require.NoError(t, euros.Ready(soon(t)))
	for range 3 {
		c, err := cents.Get(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, Cents{100}, c)
		e, err := euros.Get(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, Euros{1}, e)
	}
	require.EqualValues(t, 1, cents.Stats().Loads, "and they leave each other's entries alone")
	require.EqualValues(t, 1, euros.Stats().Loads)
}
