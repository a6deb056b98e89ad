package tiered

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// C6: a write that Redis did not take is an error, is gone here, and is repeated until Redis takes it.
func TestC6AnUnconfirmedWriteIsRepeated(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*Cache[int], *source) error{
		"Invalidate":    func(c *Cache[int], s *source) error { s.write("k"); return c.Invalidate(context.Background(), "k") },
		"Set":           func(c *Cache[int], s *source) error { return c.Set(context.Background(), "k", s.write("k")) },
		"InvalidateAll": func(c *Cache[int], s *source) error { s.write("k"); return c.InvalidateAll(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := fleet(t, 2, r, s)
				require.Equal(t, 0, get(t, f[0], "k"))
				require.Equal(t, 0, get(t, f[1], "k"))

				var writes atomic.Bool // only writes fail: reads would find the old value
				writes.Store(true)
				r.intercept(func(cmd string, args []string) error {
					if writes.Load() && (isInvalidate(cmd, args) || isSet(cmd, args) || isInvalidateAll(cmd, args)) {
						return errors.New("READONLY not now")
					}
					return nil
				})
				require.ErrorIs(t, write(f[0], s), ErrPending)
				h := f[0].Health()
				require.True(t, h.PendingKeys == 1 || h.PendingAll)
				for range 3 {
					require.Equal(t, 1, get(t, f[0], "k"), "L2 has the old value and is not believed")
				}
				writes.Store(false)
				eventually(t, "it is repeated", func() bool { h := f[0].Health(); return h.PendingKeys == 0 && !h.PendingAll })
				eventually(t, "the other instance hears it", func() bool { return get(t, f[1], "k") == 1 })
				require.Equal(t, 1, get(t, f[0], "k"))
			})
		})
	}
}

// A Set whose reply was lost has an unknown outcome. When its bytes arrive after all, and late, the repeated invalidation
// must come after them.
func TestALateSetOnlyInvalidates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s)
		require.NoError(t, c.Set(soon(t), "k", 1)) // the script is known
		eventually(t, "its message", func() bool { return c.Stats().Received == 1 })
		var late []any
		r.intercept(func(cmd string, args []string) error {
			if !isSet(cmd, args) || late != nil {
				return nil
			}
			late = append(late, cmd)
			for _, arg := range args {
				late = append(late, arg)
			}
			return io.EOF // for the caller it is lost; the network still has it
		})
		heard := c.Stats().Received
		require.ErrorIs(t, c.Set(soon(t), "k", 100), ErrPending)
		require.Equal(t, 0, get(t, c, "k"))
		eventually(t, "its repetition", func() bool { return c.Stats().Received > heard && c.Health().PendingKeys == 0 })
		heard = c.Stats().Received
		// The repetition came after the latest time at which the Set may store; so does the Set now.
		stored, err := r.client(t).Do(soon(t), late...).Int()
		require.NoError(t, err)
		require.Zero(t, stored)
		eventually(t, "it has invalidated", func() bool { return c.Stats().Received > heard })
		require.Equal(t, 0, get(t, c, "k"), "the source's value, not the late one")
	})
}

func TestAnEndedContextStillEvictsAndQueues(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		get(t, f[0], "k")
		get(t, f[1], "k")
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		s.write("k")
		err := f[0].Invalidate(ended, "k")
		require.ErrorIs(t, err, ErrPending)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, get(t, f[0], "k"))
		eventually(t, "the background does it", func() bool { return get(t, f[1], "k") == 1 })
	})
}

func TestCloseSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s, func(o *Options[int]) { o.CloseTimeout = 50 * time.Millisecond })
		r.down()
		require.ErrorIs(t, c.Invalidate(soon(t), "a", "b", "c"), ErrPending)
		err := c.Close()
		require.ErrorIs(t, err, ErrPending)
		require.ErrorContains(t, err, "3 keys and tags of cache "+r.name())
		require.Equal(t, err, c.Close())
	})
}

func TestCloseDrains(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		get(t, f[1], "k")
		s.write("k")
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, f[0].Invalidate(ended, "k"), ErrPending)
		require.NoError(t, f[0].Close())
		eventually(t, "heard", func() bool { return get(t, f[1], "k") == 1 })
	})
}

func TestTheQueueIsBoundedAndCoalesces(t *testing.T) {
	t.Parallel()
	p := newPending(1, make(chan struct{}, 1))
	now := time.Now()
	for range 3 {
		p.add([]string{"a", "b"}, now)
	}
	n, all := p.size()
	require.Equal(t, 2, n)
	require.False(t, all)
	require.True(t, p.has("a"))
	require.False(t, p.has("c"))

	for i := range maxPendingKeys + 1 {
		p.add([]string{fmt.Sprint(i)}, now)
	}
	n, all = p.size()
	require.True(t, all)
	require.LessOrEqual(t, n, maxPendingKeys)
	require.True(t, p.has("anything"))

	b, wait, some := p.next(now, 10)
	require.True(t, some && b.all && wait == 0)
	p.confirm(b)
	for {
		b, _, some = p.next(now, 10)
		if !some {
			break
		}
		p.confirm(b)
	}
	require.False(t, p.has("a"))
	require.Zero(t, p.bytes)

	big := string(make([]byte, 8000))
	for i := range 2000 {
		p.add([]string{fmt.Sprint(i) + big}, now)
	}
	_, all = p.size()
	require.True(t, all, "bounded in bytes too")
}

// A key that is invalidated again while its first invalidation is being repeated stays pending.
func TestAnAdditionDuringARetryStays(t *testing.T) {
	t.Parallel()
	p := newPending(1, make(chan struct{}, 1))
	now := time.Now()
	p.add([]string{"a", "b"}, now)
	b, _, _ := p.next(now, 10)
	require.ElementsMatch(t, []string{"a", "b"}, b.keys)
	p.add([]string{"a"}, now.Add(time.Second))
	p.confirm(b)
	require.True(t, p.has("a"))
	require.False(t, p.has("b"))
	_, left, some := p.next(now, 10)
	require.True(t, some)
	require.Equal(t, time.Second, left)
	p.add([]string{"a"}, now)
	_, left, _ = p.next(now, 10)
	require.Equal(t, time.Second, left, "the later time counts")

	p.addAll(now)
	b, _, _ = p.next(now.Add(time.Second), 10)
	p.addAll(now)
	p.confirm(b)
	require.True(t, p.has("x"))
}

func TestRedisDownAndBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s, func(o *Options[int]) { o.MaxStaleness = 200 * time.Millisecond })
		get(t, f[0], "k")
		get(t, f[1], "k")
		r.close()
		s.write("k")
		require.ErrorIs(t, f[0].Invalidate(soon(t), "k"), ErrPending)
		require.Equal(t, 1, get(t, f[0], "k"), "C2 without Redis")
		eventually(t, "C3 without Redis", func() bool { return get(t, f[1], "k") == 1 })
		eventually(t, "it is known", func() bool { return f[1].Health().RedisError != nil && !f[1].Health().LocalTrusted })
		r.restart()
		for _, c := range f {
			eventually(t, "trusted again", func() bool {
				h := c.Health()
				return h.LocalTrusted && h.RemoteTrusted && h.PendingKeys == 0 && h.RedisError == nil
			})
			require.Equal(t, 1, get(t, c, "k"))
		}
		require.GreaterOrEqual(t, f[1].Stats().Sessions, uint64(2))
	})
}

// While Redis is away, nothing but MaxLoads stands between the readers and the source.
func TestMaxLoads(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		r.close()
		gate := make(chan struct{})
		var running, most atomic.Int64
		c := lazyInstance(t, r, newSource(), func(o *Options[int]) {
			o.MaxLoads = 3
			o.Load = func(context.Context, string) (int, error) {
				raise(&most, running.Add(1))
				<-gate
				running.Add(-1)
				return 1, nil
			}
		})
		var all []<-chan result
		for i := range 20 {
			all = append(all, getAsync(soon(t), c, keyName(i)))
		}
		eventually(t, "three run", func() bool { return running.Load() == 3 })
		short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Get(short, "late")
		require.ErrorIs(t, err, context.DeadlineExceeded, "who waits obeys its own context")
		close(gate)
		for _, ch := range all {
			require.Equal(t, result{val: 1}, wait(t, "all", ch))
		}
		require.LessOrEqual(t, most.Load(), int64(3))
	})
}

// C5 in small: with Redis gone a Get costs its load, and Set and Invalidate say so.
func TestStartingWithoutRedis(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		r.close()
		c := lazyInstance(t, r, s)
		began := time.Now()
		require.Equal(t, 0, get(t, c, "k"))
		require.Less(t, time.Since(began), c.opts.RedisTimeout, "it is refused, which is not waited for")
		require.Equal(t, 0, get(t, c, "k"))
		require.EqualValues(t, 1, s.loads.Load(), "L1 keeps it for MaxStaleness from the load")
		s.write("k")
		require.ErrorIs(t, c.Set(soon(t), "k", 1), ErrPending)
		require.Equal(t, 1, get(t, c, "k"))
		eventually(t, "Ready tells why", func() bool {
			short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			err := c.Ready(short)
			why := c.Health().RedisError
			return errors.Is(err, context.DeadlineExceeded) && why != nil && strings.HasSuffix(err.Error(), "; Redis: "+why.Error())
		})
		r.restart()
		require.NoError(t, c.Ready(soon(t)))
	})
}
