package tiered

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// byKey tags values by what stands in their keys before the slash: "red+green/1" has two.
func byKey(o *Options[int]) { o.Tags = tagsOfKey }

func tagsOfKey(key string, _ int) []string {
	tags, _, ok := strings.Cut(key, "/")
	if !ok || tags == "" {
		return nil
	}
	return strings.Split(tags, "+")
}

// isInvalidateTags is for a script that has n tags.
func isInvalidateTags(cmd string, args []string, n int) bool { return isScript(cmd, args, 1+n, 4) }

func taggedFleet(t testing.TB, n int, r rig, s *source, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	f := fleet(t, n, r, s, append([]func(*Options[int]){byKey}, change...)...)
	trustsRedis(t, f...)
	return f
}

func TestInvalidateTagsReachesEveryInstance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := taggedFleet(t, 2, r, s)
		keys := []string{"red/1", "red/2", "red+green/3", "green/4", "/5"}
		red := map[string]bool{"red/1": true, "red/2": true, "red+green/3": true}
		for _, c := range f {
			for _, key := range keys {
				require.Equal(t, 0, get(t, c, key))
			}
		}
		require.EqualValues(t, len(keys), s.loads.Load())
		for _, key := range keys {
			s.write(key)
		}
		require.NoError(t, f[0].InvalidateTags(soon(t), "red", "unknown"))
		eventually(t, "the other has heard", func() bool { return f[1].Stats().Received == uint64(2*r.partitions()) })
		for _, c := range f {
			for _, key := range keys {
				want := 0
				if red[key] {
					want = 1
				}
				require.Equal(t, want, get(t, c, key), key)
			}
		}
		require.EqualValues(t, len(keys)+len(red), s.loads.Load(), "one load for each in the fleet")
		require.NoError(t, f[1].InvalidateTags(soon(t), "green"))
		require.Equal(t, 1, get(t, f[1], "green/4"))
	})
}

// What every instance holds in L1 is served without asking Redis, and what only Redis holds in one trip.
func TestATaggedHit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := taggedFleet(t, 2, r, s)
		get(t, f[0], "red/1")
		before := f[0].Stats().Commands
		get(t, f[0], "red/1")
		require.Equal(t, before, f[0].Stats().Commands)
		before = f[1].Stats().Commands
		get(t, f[1], "red/1")
		require.EqualValues(t, 1, f[1].Stats().Commands-before)
		require.EqualValues(t, 1, s.loads.Load())
	})
}

func TestATagVersionThatIsLostIsAMiss(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]func(r rig) string{
		"version": func(r rig) string { return r.tag("red/1", "red") },
		"counter": func(r rig) string { return r.counter("red/1") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := taggedFleet(t, 2, r, s)
				get(t, f[0], "red/1")
				require.True(t, r.del(lost(r)))
				s.write("red/1")
				want := 1
				if name == "counter" {
					want = 0 // the version still stands
				}
				require.Equal(t, want, get(t, f[1], "red/1"))
				s.write("red/1")
				require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
				require.Equal(t, 2, get(t, f[0], "red/1"))
				eventually(t, "the other hears", func() bool { return get(t, f[1], "red/1") == 2 })
				require.Equal(t, 2, get(t, f[1], "red/1"))
			})
		})
	}
}

func TestSetCarriesTags(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(c *Cache[int], key string, v int) error{
		"Set": func(c *Cache[int], key string, v int) error { return c.Set(context.Background(), key, v) },
		"SetMany": func(c *Cache[int], key string, v int) error {
			return c.SetMany(context.Background(), map[string]int{key: v, "/x": 7})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := taggedFleet(t, 2, r, s)
				require.NoError(t, set(f[0], "red/1", 10))
				for _, c := range f {
					require.Equal(t, 10, get(t, c, "red/1"))
				}
				require.NoError(t, f[1].InvalidateTags(soon(t), "red"))
				require.Equal(t, 0, get(t, f[1], "red/1"))
				eventually(t, "the other hears", func() bool { return get(t, f[0], "red/1") == 0 })
				require.EqualValues(t, 1, s.loads.Load())
			})
		})
	}
}

func TestTagsThatAreNone(t *testing.T) {
	t.Parallel()
	many := make([]string, remote.MaxTags+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, tags := range map[string]func(string, int) []string{
		"empty":    func(string, int) []string { return []string{"red", ""} },
		"too long": func(string, int) []string { return []string{strings.Repeat("x", remote.MaxTagBytes+1)} },
		"too many": func(string, int) []string { return many },
		"a panic":  func(string, int) []string { panic("mistake") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.Tags = tags })[0]
				require.Equal(t, 0, get(t, c, "k"))
				require.Equal(t, map[string]int{"k": 0}, getMany(t, c, "k"))
				require.EqualValues(t, 2, s.loads.Load(), "it is not stored")
				require.EqualValues(t, 2, c.Stats().Unstored)
				require.ErrorIs(t, c.Set(soon(t), "k", 1), ErrInvalidTag)
				require.ErrorIs(t, c.SetMany(soon(t), map[string]int{"k": 1}), ErrInvalidTag)
				require.EqualValues(t, 2, c.Stats().Invalidated)
				r.down()
				require.Equal(t, 0, get(t, c, "k"))
				require.Nil(t, c.local.Get("k"))
			})
		})
	}
}

func TestTheSameTagTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		own := []string{"b", "a", "b", "a"}
		c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.Tags = func(string, int) []string { return own } })[0]
		tags, err := c.tagsOf("k", 1)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, tags)
		require.Equal(t, []string{"b", "a", "b", "a"}, own, "they are the user's")
	})
}

func TestInvalidateTagsOfWhatAreNone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := taggedFleet(t, 1, r, s)[0]
		get(t, c, "red/1")
		s.write("red/1")
		require.NoError(t, c.InvalidateTags(soon(t)))
		err := c.InvalidateTags(soon(t), "", "red", strings.Repeat("x", remote.MaxTagBytes+1))
		require.ErrorIs(t, err, ErrInvalidTag)
		require.Equal(t, 1, get(t, c, "red/1"), "the others are invalidated")
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrClosed)
	})
}

func TestMoreTagsThanAMessageTakes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := taggedFleet(t, 1, r, s)[0]
		get(t, c, "t1500/1")
		s.write("t1500/1")
		tags := names("t", 2*pubsub.MaxKeys+1)
		require.NoError(t, c.InvalidateTags(soon(t), tags...))
		require.Equal(t, 1, get(t, c, "t1500/1"))
		eventually(t, "its own messages", func() bool { return c.Stats().Received == uint64(len(tags)*r.partitions()) })
	})
}

// An instance without Tags obeys those of others; what it stores itself has none, and is not used where tags are expected.
func TestInstancesWithAndWithoutTags(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		tagged := taggedFleet(t, 1, r, s)[0]
		plain := instance(t, r, s)
		trustsRedis(t, plain)
		get(t, tagged, "red/1")
		require.Equal(t, 0, get(t, plain, "red/1"))
		require.Equal(t, map[string]int{"red/1": 0}, getMany(t, plain, "red/1"))
		require.EqualValues(t, 1, s.loads.Load())
		s.write("red/1")
		require.NoError(t, tagged.InvalidateTags(soon(t), "red"))
		eventually(t, "it drops its copy", func() bool { return get(t, plain, "red/1") == 1 })
		require.EqualValues(t, 2, s.loads.Load())

		// What it has loaded is without tags.
		require.Zero(t, tagged.Stats().BadEntries)
		require.Equal(t, 1, get(t, tagged, "red/1"))
		require.EqualValues(t, 1, tagged.Stats().BadEntries)
		require.EqualValues(t, 3, s.loads.Load())
		s.write("red/1")
		require.NoError(t, plain.InvalidateTags(soon(t), "red"))
		eventually(t, "one without Tags may invalidate them", func() bool { return get(t, tagged, "red/1") == 2 })
		require.NoError(t, plain.Invalidate(soon(t), "red/1"))
		require.Equal(t, 2, get(t, plain, "red/1"))
	})
}

// An answer "not found" has no tags: it is neither refused nor invalidated by one.
func TestNotFoundHasNoTags(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		s.missing["red/1"] = true
		f := taggedFleet(t, 2, r, s)
		for range 2 {
			for _, c := range f {
				_, err := c.Get(soon(t), "red/1")
				require.ErrorIs(t, err, ErrNotFound)
			}
			require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
		}
		require.EqualValues(t, 1, s.loads.Load())
	})
}
