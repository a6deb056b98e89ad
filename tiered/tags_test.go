package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
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

func tagKey(tag string) string { return "tandem:{things}:t:" + tag }

// trustsRedis waits until what is read from Redis is kept: the first heartbeat may have been sent before the subscription was there.
func trustsRedis(t testing.TB, caches ...*Cache[int]) {
	t.Helper()
	for _, c := range caches {
		eventually(t, "nothing is in doubt", func() bool { return c.gate.look().keep })
	}
}

func taggedFleet(t testing.TB, n int, r *redisServer, s *source, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	f := fleet(t, n, r, s, append([]func(*Options[int]){byKey}, change...)...)
	trustsRedis(t, f...)
	return f
}

func TestInvalidateTagsReachesEveryInstance(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
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
	eventually(t, "the other has heard", func() bool { return f[1].Stats().Received == 2 })
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
}

// What every instance holds in L1 is served without asking Redis, and what only Redis holds in one trip.
func TestATaggedHit(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := taggedFleet(t, 2, r, s)
	get(t, f[0], "red/1")
	before := f[0].Stats().Commands
	get(t, f[0], "red/1")
	require.Equal(t, before, f[0].Stats().Commands)
	before = f[1].Stats().Commands
	get(t, f[1], "red/1")
	require.EqualValues(t, 1, f[1].Stats().Commands-before)
	require.EqualValues(t, 1, s.loads.Load())
}

func TestC4ALoadFromBeforeATagWasInvalidated(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]int{"by this instance": 0, "by another": 1} {
		for what, load := range map[string]func(*Cache[int]) (int, error){
			"Get": func(c *Cache[int]) (int, error) { return c.Get(context.Background(), "red/1") },
			"GetMany": func(c *Cache[int]) (int, error) {
				got, err := c.GetMany(context.Background(), []string{"red/1", "green/2"})
				return got["red/1"], err
			},
			"Refresh": func(c *Cache[int]) (int, error) { return c.Refresh(context.Background(), "red/1") },
		} {
			for change, option := range map[string]func(*Options[int]){
				"":               func(*Options[int]) {},
				", NoLease":      func(o *Options[int]) { o.NoLease = true },
				", new versions": func(o *Options[int]) { o.Jitter = Off },
			} {
				t.Run(what+", invalidated "+name+change, func(t *testing.T) {
					t.Parallel()
					r, s := newRedis(t), newSource()
					f := taggedFleet(t, 2, r, s, option)
					if change != ", new versions" {
						get(t, f[0], "red/0") // then there is a version
					}
					read, letGo := s.holdNext()
					defer letGo()
					old := make(chan result, 1)
					go func() {
						v, err := load(f[0])
						old <- result{v, err}
					}()
					wait(t, "the load", read)
					key := "red/1"
					s.write(key)
					heard := f[0].Stats().Received
					require.NoError(t, f[by].InvalidateTags(soon(t), "red"))
					eventually(t, "it is heard", func() bool { return f[0].Stats().Received > heard })
					letGo()
					v := wait(t, "the old load", old)
					require.NoError(t, v.err)
					require.Nil(t, f[0].local.Get(key))
					raw, err := f[0].reads.Get(soon(t), key)
					require.NoError(t, err)
					require.Nil(t, raw, "L2")
					require.Equal(t, 1, get(t, f[0], key))
					require.Equal(t, 1, get(t, f[1], key))
				})
			}
		}
	}
}

// Whoever asks after the invalidation does not share a load from before it, of whatever tags.
func TestC2ALoadFromBeforeATagWasInvalidatedIsNotJoined(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.LeaseWait = Off })[0]
	read, letGo := s.holdNext()
	defer letGo()
	old := getAsync(soon(t), c, "red/1")
	wait(t, "the load", read)
	s.write("red/1")
	require.NoError(t, c.InvalidateTags(soon(t), "red"))
	require.Equal(t, 1, get(t, c, "red/1"))
	letGo()
	require.Equal(t, result{val: 0}, wait(t, "the old load", old))
	require.Equal(t, 1, get(t, c, "red/1"))
}

// Between the first eviction and the script a Get reads the old value from Redis: it must not stay in L1.
func TestC2TheEvictionAfterTheScriptOfTags(t *testing.T) {
	t.Parallel()
	for _, flying := range []bool{false, true} {
		t.Run(fmt.Sprint("flight under way ", flying), func(t *testing.T) {
			t.Parallel()
			r, s := newRedis(t), newSource()
			stop := &stopCodec{Codec: codec.JSON}
			c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.Codec, o.MaxStaleness, o.TTL = stop, time.Hour, time.Hour })[0]
			require.Equal(t, 0, get(t, c, "red/1"))
			var old <-chan result
			letGo := func() {}
			var once sync.Once
			r.intercept(func(cmd string, args []string) error {
				if isInvalidateTags(cmd, args, 1) {
					once.Do(func() { // the first eviction is over, the script has not run
						if !flying {
							if v, err := c.Get(soon(t), "red/1"); v != 0 || err != nil {
								t.Errorf("in between: %d, %v", v, err)
							}
							return
						}
						var in <-chan struct{}
						in, letGo = stop.holdNext()
						old = getAsync(soon(t), c, "red/1")
						wait(t, "the read in between", in)
					})
				}
				return nil
			})
			c.leave() // no message is heard, whatever Redis publishes
			s.write("red/1")
			require.NoError(t, c.InvalidateTags(soon(t), "red"))
			r.up()
			require.Equal(t, 1, get(t, c, "red/1"))
			letGo()
			if flying {
				require.Equal(t, result{val: 0}, wait(t, "the old read", old))
			}
			require.Equal(t, 1, get(t, c, "red/1"))
		})
	}
}

func TestC6AnInvalidationOfATagThatRedisDidNotTake(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := taggedFleet(t, 2, r, s)
	for _, key := range []string{"red/1", "green/2"} {
		get(t, f[1], key) // Redis has them
	}
	r.intercept(func(cmd string, args []string) error {
		if isInvalidateTags(cmd, args, 1) {
			return errors.New("ERR not now")
		}
		return nil
	})
	s.write("red/1")
	require.ErrorIs(t, f[0].InvalidateTags(soon(t), "red"), ErrPending)
	require.Equal(t, 1, f[0].Health().PendingKeys)
	require.Equal(t, 1, get(t, f[0], "red/1"), "Redis is not believed")
	require.Equal(t, map[string]int{"red/1": 1, "green/2": 0}, getMany(t, f[0], "red/1", "green/2"))
	require.EqualValues(t, 3, s.loads.Load(), "of other tags it is")
	r.up()
	eventually(t, "the repetition", func() bool { return f[0].Health().PendingKeys == 0 })
	eventually(t, "the other hears of it", func() bool { return get(t, f[1], "red/1") == 1 })
}

// slowReplies is a hook that keeps what Redis has answered back.
type slowReplies struct{ hold func() }

func (slowReplies) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s slowReplies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer s.hold()
		return next(ctx, cmd)
	}
}

func (s slowReplies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer s.hold()
		return next(ctx, cmds)
	}
}

// The invalidation of a tag is repeated and confirmed between an answer of Redis' and the look at its tags: see checkTags.
func TestC6ATagThatIsConfirmedWhileAnEntryIsRead(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(c *Cache[int]) int{
		"Get":     func(c *Cache[int]) int { return get(t, c, "red/1") },
		"GetMany": func(c *Cache[int]) int { return getMany(t, c, "red/1", "green/2")["red/1"] },
		"Peek": func(c *Cache[int]) int {
			v, err := c.Peek(soon(t), "red/1")
			require.ErrorIs(t, err, ErrNotFound)
			return v + 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := newRedis(t), newSource()
			c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.RedisTimeout, o.LocalTTL = 10*time.Second, Off })[0]
			getMany(t, c, "red/1", "green/2") // Redis has them
			r.intercept(func(cmd string, args []string) error {
				if isInvalidateTags(cmd, args, 1) {
					return errors.New("ERR not now")
				}
				return nil
			})
			s.write("red/1")
			require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrPending) // 1
			var once sync.Once
			c.bus.data.AddHook(slowReplies{hold: func() { // 2
				once.Do(func() {
					r.up() // 3
					eventually(t, "the repetition", func() bool { return c.Health().PendingKeys == 0 })
				})
			}})
			require.Equal(t, 1, read(c), "4")
		})
	}
}

func TestC6TooManyTagsArePendingAsEverything(t *testing.T) {
	t.Parallel()
	p := newPending()
	p.add([]string{"k"}, time.Now())
	require.False(t, p.hasTag([]string{"k"}))
	p.addTags([]string{"a", "b"}, time.Now())
	require.True(t, p.hasTag([]string{"c", "b"}))
	require.False(t, p.has("a"))
	keys, all := p.size()
	require.Equal(t, 3, keys)
	require.False(t, all)
	b, _, _ := p.next(time.Now(), 10)
	require.Equal(t, []string{"k"}, b.keys)
	require.ElementsMatch(t, []string{"a", "b"}, b.tags)
	p.addTags([]string{"a"}, time.Now())
	p.confirm(b)
	require.True(t, p.hasTag([]string{"a"}), "added again meanwhile")
	require.False(t, p.hasTag([]string{"b"}))
	require.Equal(t, 1, p.bytes)
	p.addTags([]string{"later"}, time.Now().Add(time.Hour))
	p.confirm(batch{tags: []string{"a"}, seq: p.seq})
	b, left, some := p.next(time.Now(), 10)
	require.Empty(t, b.tags)
	require.Greater(t, left, 59*time.Minute)
	require.True(t, some)
	for i := range maxPendingKeys {
		p.addTags([]string{fmt.Sprint(i)}, time.Now())
	}
	_, all = p.size()
	require.True(t, all)
	require.True(t, p.hasTag([]string{"any"}))
	require.True(t, p.has("any"))
	require.False(t, p.hasTag(nil))
	require.Empty(t, p.tags)
}

// A server that has taken over may lack what the one before had confirmed.
func TestTagsAreRepeatedOnAServerThatHasTakenOver(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.MaxStaleness, o.TTL = time.Hour, time.Hour })[0]
	require.NoError(t, c.InvalidateTags(soon(t), "red", "green"))
	require.NoError(t, c.Invalidate(soon(t), "k"))
	heard := c.Stats().Received
	eventually(t, "its own", func() bool { heard = c.Stats().Received; return heard == 3 })
	c.moved(false)
	require.EqualValues(t, 3, c.Stats().Replayed)
	eventually(t, "they are repeated", func() bool { return c.Stats().Received == 6 })
	eventually(t, "and done", func() bool { return c.Health().PendingKeys == 0 })

	moves := c.journal.begin()
	c.moved(false)
	require.False(t, c.journal.addTags(moves, []string{"red"}), "confirmed by whom?")
}

func TestJournalOfTags(t *testing.T) {
	t.Parallel()
	j := newJournal()
	require.True(t, j.addTags(0, []string{"red", "green"}))
	require.True(t, j.add(0, []string{"k"}))
	require.Equal(t, 3, j.keys)
	require.Equal(t, 9, j.bytes)
	keys, tags, all := j.take()
	require.Equal(t, []string{"k"}, keys)
	require.Equal(t, []string{"red", "green"}, tags)
	require.False(t, all)
	for i := range maxPendingKeys + 1 {
		require.True(t, j.addTags(1, []string{fmt.Sprint(i)}))
	}
	_, tags, all = j.take()
	require.True(t, all)
	require.Empty(t, tags)
}

func TestATagVersionThatIsLostIsAMiss(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{tagKey("red"), "tandem:{things}:tags"} {
		r, s := newRedis(t), newSource()
		f := taggedFleet(t, 2, r, s)
		get(t, f[0], "red/1")
		require.True(t, r.Del(lost))
		s.write("red/1")
		want := 1
		if lost != tagKey("red") {
			want = 0 // it still stands
		}
		require.Equal(t, want, get(t, f[1], "red/1"))
		s.write("red/1")
		require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
		require.Equal(t, 2, get(t, f[0], "red/1"))
		eventually(t, "the other hears", func() bool { return get(t, f[1], "red/1") == 2 })
		require.Equal(t, 2, get(t, f[1], "red/1"))
	}
}

// A value that was read from Redis before the invalidation, and decoded after it, does not enter L1.
func TestAnOldReadOfATaggedEntryDoesNotEnterL1(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	stop := &stopCodec{Codec: codec.JSON}
	f := taggedFleet(t, 2, r, s, func(o *Options[int]) { o.Codec = stop })
	get(t, f[0], "red/1")
	in, letGo := stop.holdNext()
	defer letGo()
	old := getAsync(soon(t), f[1], "red/1")
	wait(t, "the read", in)
	s.write("red/1")
	require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
	eventually(t, "it is heard", func() bool { return f[1].Stats().Received == 1 })
	letGo()
	require.Equal(t, result{val: 0}, wait(t, "the old read", old))
	require.Nil(t, f[1].local.Get("red/1"))
	require.Equal(t, 1, get(t, f[1], "red/1"))
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
			r, s := newRedis(t), newSource()
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
			r, s := newRedis(t), newSource()
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
	}
}

func TestTheSameTagTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	own := []string{"b", "a", "b", "a"}
	c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.Tags = func(string, int) []string { return own } })[0]
	tags, err := c.tagsOf("k", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, tags)
	require.Equal(t, []string{"b", "a", "b", "a"}, own, "they are the user's")
}

func TestInvalidateTagsOfWhatAreNone(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := taggedFleet(t, 1, r, s)[0]
	get(t, c, "red/1")
	s.write("red/1")
	require.NoError(t, c.InvalidateTags(soon(t)))
	err := c.InvalidateTags(soon(t), "", "red", strings.Repeat("x", remote.MaxTagBytes+1))
	require.ErrorIs(t, err, ErrInvalidTag)
	require.Equal(t, 1, get(t, c, "red/1"), "the others are invalidated")
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrClosed)
}

func TestMoreTagsThanAMessageTakes(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := taggedFleet(t, 1, r, s)[0]
	get(t, c, "t1500/1")
	s.write("t1500/1")
	tags := names("t", 2*pubsub.MaxKeys+1)
	require.NoError(t, c.InvalidateTags(soon(t), tags...))
	require.Equal(t, 1, get(t, c, "t1500/1"))
	eventually(t, "its own messages", func() bool { return c.Stats().Received == uint64(len(tags)) })
}

// An instance without Tags obeys those of others; what it stores itself has none, and is not used where tags are expected.
func TestInstancesWithAndWithoutTags(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
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
}

// An answer "not found" has no tags: it is neither refused nor invalidated by one.
func TestNotFoundHasNoTags(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
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
}

func TestC5TagsWithoutRedis(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := taggedFleet(t, 1, r, s, func(o *Options[int]) {
		o.MaxStaleness, o.TTL, o.RedisTimeout = time.Hour, time.Hour, 200*time.Millisecond
	})
	c := f[0]
	r.down()
	require.Equal(t, 0, get(t, c, "red/1"))
	require.Equal(t, 0, get(t, c, "green/2"))
	require.NotNil(t, c.local.Get("red/1"))
	s.write("red/1")
	require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrPending)
	require.Nil(t, c.local.Get("red/1"))
	require.NotNil(t, c.local.Get("green/2"))
	require.Equal(t, 1, get(t, c, "red/1"))

	// A load from before it.
	read, letGo := s.holdNext()
	defer letGo()
	old := getAsync(soon(t), c, "red/3")
	wait(t, "the load", read)
	s.write("red/3")
	require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrPending)
	letGo()
	require.Equal(t, result{val: 0}, wait(t, "the old load", old))
	require.Nil(t, c.local.Get("red/3"))
	require.Equal(t, 1, get(t, c, "red/3"))
	r.up()
	eventually(t, "the repetition", func() bool { return c.Health().PendingKeys == 0 })
}

// What has expired does not stand in for a load that fails if its tag was invalidated meanwhile.
func TestAnExpiredValueWhoseTagIsInvalidatedDoesNotStandIn(t *testing.T) {
	t.Parallel()
	for _, invalidated := range []bool{false, true} {
		t.Run(fmt.Sprint(invalidated), func(t *testing.T) {
			t.Parallel()
			r, s := newRedis(t), newSource()
			f := taggedFleet(t, 2, r, s, func(o *Options[int]) {
				o.MaxStaleness, o.TTL, o.StaleIfError, o.Jitter = 2*time.Second, 2*time.Second, time.Hour, Off
			})
			get(t, f[0], "red/1")
			eventually(t, "it has expired in Redis, which is believed", func() bool {
				raw, err := f[1].reads.Get(soon(t), "red/1")
				o := f[1].gate.look()
				if err != nil || !o.open || !o.keep {
					return false
				}
				_, use, err := f[1].open("red/1", raw, o.epoch, o.now(), 0)
				return err == nil && use == expired
			})
			s.mu.Lock()
			s.err = errSource
			s.mu.Unlock()
			read, letGo := s.holdNext()
			defer letGo()
			asked := getAsync(soon(t), f[1], "red/1")
			wait(t, "the load", read)
			if invalidated {
				require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
				eventually(t, "it is heard", func() bool { return f[1].Stats().Received == 1 })
			}
			letGo()
			got := wait(t, "the load that fails", asked)
			if invalidated {
				require.ErrorIs(t, got.err, errSource)
			} else {
				require.NoError(t, got.err)
			}
		})
	}
}

// Readers beside writers: once InvalidateTags has returned, its instance serves nothing older.
func TestC2TagsBesideReaders(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := taggedFleet(t, 2, r, s, func(o *Options[int]) { o.LeaseWait = 20 * time.Millisecond })
	const tags, keys = 3, 4
	key := func(tag, i int) string { return fmt.Sprintf("t%d/%d", tag, i) }
	var invalidated [tags]atomic.Int64 // the version of the tag's keys when the last InvalidateTags of f[0] had returned
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				tag := rand.IntN(tags)
				k := key(tag, rand.IntN(keys))
				before := invalidated[tag].Load()
				v, err := f[0].Get(context.Background(), k)
				if err != nil || int64(v) < before {
					t.Errorf("%s: %d after %d, %v", k, v, before, err)
					return
				}
				if _, err := f[1].GetMany(context.Background(), []string{k}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 60 {
		tag := i % tags
		for k := range keys {
			s.write(key(tag, k))
		}
		if f[0].InvalidateTags(soon(t), fmt.Sprint("t", tag)) == nil {
			invalidated[tag].Store(int64(s.version(key(tag, 0))))
		}
	}
	close(stop)
	wg.Wait()
	for tag := range tags {
		for k := range keys {
			for _, c := range f {
				eventually(t, "all are new", func() bool { return get(t, c, key(tag, k)) == s.version(key(tag, k)) })
			}
		}
	}
}
