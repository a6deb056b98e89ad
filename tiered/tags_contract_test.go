package tiered

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

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
					onBoth(t, func(t *testing.T, r rig) {
						s := newSource()
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
						eventually(t, "it is heard", func() bool { return f[0].Stats().Received >= heard+uint64(r.partitions()) })
						letGo()
						v := wait(t, "the old load", old)
						require.NoError(t, v.err)
						require.Nil(t, f[0].local.Get(key))
						raw, err := readsOf(f[0], key).Get(soon(t), key)
						require.NoError(t, err)
						require.Nil(t, raw, "L2")
						require.Equal(t, 1, get(t, f[0], key))
						require.Equal(t, 1, get(t, f[1], key))
					})
				})
			}
		}
	}
}

// Whoever asks after the invalidation does not share a load from before it, of whatever tags.
func TestC2ALoadFromBeforeATagWasInvalidatedIsNotJoined(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
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
	})
}

// Between the first eviction and the script a Get reads the old value from Redis: it must not stay in L1.
func TestC2TheEvictionAfterTheScriptOfTags(t *testing.T) {
	t.Parallel()
	for _, flying := range []bool{false, true} {
		t.Run(fmt.Sprint("flight under way ", flying), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
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
				deafen(c, "red/1") // no message is heard, whatever Redis publishes
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
		})
	}
}

// A value that was read from Redis before the invalidation, and decoded after it, does not enter L1.
func TestAnOldReadOfATaggedEntryDoesNotEnterL1(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		stop := &stopCodec{Codec: codec.JSON}
		f := taggedFleet(t, 2, r, s, func(o *Options[int]) { o.Codec = stop })
		get(t, f[0], "red/1")
		in, letGo := stop.holdNext()
		defer letGo()
		old := getAsync(soon(t), f[1], "red/1")
		wait(t, "the read", in)
		s.write("red/1")
		require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
		eventually(t, "it is heard", func() bool { return f[1].Stats().Received == uint64(r.partitions()) })
		letGo()
		require.Equal(t, result{val: 0}, wait(t, "the old read", old))
		require.Nil(t, f[1].local.Get("red/1"))
		require.Equal(t, 1, get(t, f[1], "red/1"))
	})
}

func TestC5TagsWithoutRedis(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := taggedFleet(t, 1, r, s, func(o *Options[int]) {
			o.MaxStaleness, o.TTL, o.RedisTimeout = time.Hour, time.Hour, 200*time.Millisecond
		})
		c := f[0]
		r.down()
		// The next heartbeat fails, and its connections are closed: L1 starts anew, and then no more.
		eventually(t, "it is noticed", func() bool { return isDeaf(c) })
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
	})
}

// What has expired does not stand in for a load that fails if its tag was invalidated meanwhile.
func TestAnExpiredValueWhoseTagIsInvalidatedDoesNotStandIn(t *testing.T) {
	t.Parallel()
	for _, invalidated := range []bool{false, true} {
		t.Run(fmt.Sprint(invalidated), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := taggedFleet(t, 2, r, s, func(o *Options[int]) {
					o.MaxStaleness, o.TTL, o.StaleIfError, o.Jitter = 2*time.Second, 2*time.Second, time.Hour, Off
				})
				get(t, f[0], "red/1")
				eventually(t, "it has expired in Redis, which is believed", func() bool {
					raw, err := readsOf(f[1], "red/1").Get(soon(t), "red/1")
					o := f[1].look("red/1")
					if err != nil || !o.open || !o.keep {
						return false
					}
					_, use, err := f[1].open("red/1", raw, o.epoch, o.now(), o.cleared)
					return err == nil && use == expired
				})
				s.setErr(errSource)
				read, letGo := s.holdNext()
				defer letGo()
				asked := getAsync(soon(t), f[1], "red/1")
				wait(t, "the load", read)
				if invalidated {
					require.NoError(t, f[0].InvalidateTags(soon(t), "red"))
					eventually(t, "it is heard", func() bool { return f[1].Stats().Received == uint64(r.partitions()) })
				}
				letGo()
				got := wait(t, "the load that fails", asked)
				if invalidated {
					require.ErrorIs(t, got.err, errSource)
				} else {
					require.NoError(t, got.err)
				}
			})
		})
	}
}

// Readers beside writers: once InvalidateTags has returned, its instance serves nothing older.
func TestC2TagsBesideReaders(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
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
	})
}
