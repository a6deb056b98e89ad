package tiered

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSetManyInOneTrip(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b)
		warm := map[string]int{}
		for _, key := range names("warm:", 50) {
			warm[key] = 1
		}
		require.NoError(t, f[0].SetMany(soon(t), warm))
		require.NoError(t, f[0].SetMany(soon(t), nil))
		getMany(t, f[1], "a", "b")
		count := tripsOf(controlOf(f[0])...)
		eventually(t, "the other has heard of the first", func() bool { return f[1].Stats().Received == 50 })
		heard := f[1].Stats().Received
		require.NoError(t, f[0].SetMany(soon(t), map[string]int{"a": 5, "b": 6, "c": 7}))
		singles, pipelines := count.take()
		require.Zero(t, singles)
		require.EqualValues(t, r.mastersOf("a", "b", "c"), pipelines)
		require.EqualValues(t, 53, f[0].Stats().Sets)
		eventually(t, "the other has heard", func() bool { return f[1].Stats().Received == heard+3 })
		loads := b.loads.Load()
		for _, c := range f {
			require.Equal(t, map[string]int{"a": 5, "b": 6, "c": 7}, getMany(t, c, "a", "b", "c"))
		}
		require.Equal(t, loads, b.loads.Load())
	})
}

// What cannot be stored replaces what is stored all the same, and keeps nothing else out.
func TestSetManyOfWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		c, err := New(r.client(t), r.name(), Options[string]{
			LoadMany: func(_ context.Context, keys []string) (map[string]string, error) {
				return map[string]string{"large": "new", "off": "new"}, nil
			},
			MaxEntryBytes: 1000, RedisTimeout: 2 * time.Second, Logger: quietLog(),
			TTLFor: func(key, _ string) time.Duration {
				switch key {
				case "off":
					return Off
				case "short":
					return 1
				case "panic":
					panic("a word")
				}
				return 0
			},
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.Ready(soon(t)))
		require.NoError(t, c.Set(soon(t), "large", "old"))

		err = c.SetMany(soon(t), map[string]string{
			"good": "v", "large": strings.Repeat("x", 2000), "off": "v", "short": "v", "panic": "v", "": "v",
		})
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorIs(t, err, ErrInvalidKey)
		require.ErrorIs(t, err, ErrInvalidOption)
		require.ErrorContains(t, err, "Options.TTLFor panicked")
		require.NotErrorIs(t, err, ErrPending)
		got, err := c.GetMany(soon(t), []string{"good", "large", "off"})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"good": "v", "large": "new", "off": "new"}, got)
	})
}

// C6: what Redis does not confirm is named, evicted, and repeated; the rest of the batch is done.
func TestC6AnUnconfirmedSetManyIsRepeated(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b)
		for _, c := range f {
			getMany(t, c, "a", "b")
		}
		r.intercept(func(cmd string, args []string) error {
			if (isSet(cmd, args) || isInvalidate(cmd, args)) && args[2] == r.entry("a") {
				return errors.New("ERR not this one")
			}
			return nil
		})
		values := map[string]int{"a": b.write("a"), "b": b.write("b")}
		err := f[0].SetMany(soon(t), values)
		require.ErrorIs(t, err, ErrPending)
		var k *KeysError
		require.ErrorAs(t, err, &k)
		require.Equal(t, []string{"a"}, k.Keys)
		require.Equal(t, values, getMany(t, f[0], "a", "b"), "from the source and from Redis")
		require.Equal(t, 2, b.loaded()["a"])
		require.Equal(t, 1, b.loaded()["b"])
		r.up()
		eventually(t, "the repetition reaches the other", func() bool {
			return f[0].Health().PendingKeys == 0 && get(t, f[1], "a") == 1
		})

		r.down()
		err = f[0].SetMany(soon(t), map[string]int{"a": b.write("a"), "b": b.write("b")})
		require.ErrorIs(t, err, ErrPending)
		require.ElementsMatch(t, []string{"a", "b"}, keysNamed(t, err)) // by each node for itself
		require.Equal(t, map[string]int{"a": 2, "b": 2}, getMany(t, f[0], "a", "b"))
		r.up()
		eventually(t, "all is repeated", func() bool { return f[0].Health().PendingKeys == 0 })
	})
}

// C2: the eviction after the scripts, as of Set.
func TestC2TheEvictionAfterSetMany(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b, func(o *Options[int]) { o.MaxStaleness, o.TTL = time.Hour, time.Hour })
		require.Len(t, getMany(t, c, "a", "b"), 2)
		var once sync.Once
		r.intercept(func(cmd string, args []string) error {
			if isSet(cmd, args) {
				once.Do(func() { // the first eviction is over, no script has run
					if got, err := c.GetMany(soon(t), []string{"a", "b"}); got["a"] != 0 || err != nil {
						t.Errorf("in between: %v, %v", got, err)
					}
				})
			}
			return nil
		})
		deafen(c, "a", "b") // no message is heard, whatever Redis publishes
		values := map[string]int{"a": b.write("a"), "b": b.write("b")}
		require.NoError(t, c.SetMany(soon(t), values))
		r.up()
		require.Equal(t, values, getMany(t, c, "a", "b"))
	})
}

// A SetMany that the network delivers late only invalidates, and cannot be overtaken by its repetition.
func TestALateSetManyOnlyInvalidates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b)
		require.NoError(t, c.SetMany(soon(t), map[string]int{"k": 1})) // the script is known
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
		require.ErrorIs(t, c.SetMany(soon(t), map[string]int{"k": 100}), ErrPending)
		require.Equal(t, 0, get(t, c, "k"))
		eventually(t, "its repetition", func() bool { return c.Stats().Received > heard && c.Health().PendingKeys == 0 })
		heard = c.Stats().Received
		stored, err := r.client(t).Do(soon(t), late...).Int()
		require.NoError(t, err)
		require.Zero(t, stored)
		eventually(t, "it has invalidated", func() bool { return c.Stats().Received > heard })
		require.Equal(t, 0, get(t, c, "k"), "the source's value, not the late one")
	})
}
