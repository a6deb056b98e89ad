package tiered

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func TestOneLoadFillsBothTiers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		s.write("k")
		f := fleet(t, 2, r, s)

		require.Equal(t, 1, get(t, f[0], "k"))
		require.Equal(t, 1, get(t, f[0], "k"))
		require.Equal(t, 1, get(t, f[1], "k"))
		require.EqualValues(t, 1, s.loads.Load())

		st := f[0].Stats()
		require.EqualValues(t, 1, st.LocalHits)
		require.EqualValues(t, 1, st.RemoteMisses)
		require.EqualValues(t, 1, st.Fills)
		require.EqualValues(t, 1, f[1].Stats().RemoteHits)
		require.Zero(t, f[1].Stats().RemoteMisses)
	})
}

// C1: readers of all instances who ask for one missing key while it is being loaded share one load.
func TestC1OneLoadInTheFleet(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 3, r, s)
		read, letGo := s.holdNext()
		var wg sync.WaitGroup
		var wrong atomic.Int64
		for i := range 90 {
			wg.Go(func() {
				if v, err := f[i%3].Get(soon(t), "k"); v != 0 || err != nil {
					wrong.Add(1)
				}
			})
		}
		wait(t, "the load", read)
		// Until every instance has asked for the lease: one holds it, two wait.
		eventually(t, "the others wait for the lease", func() bool {
			return f[0].Stats().LeaseWaits+f[1].Stats().LeaseWaits+f[2].Stats().LeaseWaits >= 2
		})
		letGo()
		wg.Wait()
		require.Zero(t, wrong.Load())
		require.EqualValues(t, 1, s.loads.Load())
	})
}

// A waiter is told when the lease's holder has filled, and does not find out by polling.
func TestAWaiterIsToldAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s, func(o *Options[int]) { o.LeaseWait = patience })
		told := func(key string) time.Duration {
			read, letGo := s.holdNext()
			defer letGo()
			first := getAsync(soon(t), f[0], key)
			wait(t, "the load", read)
			waits := f[1].Stats().LeaseWaits
			second := getAsync(soon(t), f[1], key)
			// Wait until the next poll is at least five times firstPoll away, then measure.
			eventually(t, "it polls slowly", func() bool { return f[1].Stats().LeaseWaits >= waits+5 })
			began := time.Now()
			letGo()
			require.Equal(t, result{}, wait(t, "first", first))
			require.Equal(t, result{}, wait(t, "second", second))
			return time.Since(began)
		}
		// A busy machine makes one late; who polls is late each time.
		keys, began := 1, time.Now()
		for ; told(keyName(keys)) >= 3*firstPoll; keys++ {
			require.Less(t, time.Since(began), patience)
		}
		require.EqualValues(t, keys, s.loads.Load())
	})
}

// C4 and C2: a load that read the old version is under way when another instance (or its own) invalidates. Its result must
// reach neither tier, and no reader that starts later.
func TestC4AnOldLoadLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	write := map[string]func(context.Context, *Cache[int], *source) error{
		"Invalidate": func(ctx context.Context, c *Cache[int], s *source) error {
			s.write("k")
			return c.Invalidate(ctx, "k")
		},
		"Set": func(ctx context.Context, c *Cache[int], s *source) error {
			return c.Set(ctx, "k", s.write("k"))
		},
		"InvalidateAll": func(ctx context.Context, c *Cache[int], s *source) error {
			s.write("k")
			return c.InvalidateAll(ctx)
		},
	}
	for name, write := range write {
		for _, writer := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s by instance %d", name, writer), func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, r rig) {
					s := newSource()
					f := fleet(t, 3, r, s)
					s.write("k")
					read, letGo := s.holdNext()
					defer letGo()
					loader := getAsync(soon(t), f[0], "k")
					wait(t, "the load", read)

					received := f[0].Stats().Received
					messages := uint64(1)
					if name == "InvalidateAll" {
						messages = uint64(r.partitions())
					}
					require.NoError(t, write(soon(t), f[writer], s))
					// C2: while the old load is still on its way.
					require.Equal(t, 2, get(t, f[writer], "k"))
					eventually(t, "the loader has heard", func() bool { return f[0].Stats().Received >= received+messages })

					letGo()
					require.Equal(t, result{val: 1}, wait(t, "the loader", loader), "who asked before the write gets what it asked for")
					for i, c := range f {
						require.Equal(t, 2, get(t, c, "k"), "instance %d", i)
						require.Equal(t, 2, get(t, c, "k"), "instance %d again", i)
					}
					require.EqualValues(t, 1, f[0].Stats().Refused)
				})
			})
		}
	}
}

// The old load's result must not be in L2 either: nobody has loaded in between.
func TestC4ARefusedFillIsNotInRedis(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		read, letGo := s.holdNext()
		loader := getAsync(soon(t), f[0], "k")
		wait(t, "the load", read)
		s.write("k")
		require.NoError(t, f[1].Invalidate(soon(t), "k"))
		letGo()
		require.Equal(t, 0, wait(t, "the loader", loader).val)
		require.False(t, r.exists(r.entry("k")))
		require.Equal(t, 1, get(t, f[1], "k"))
	})
}

// After the invalidation somebody else loads: the entry has a lease again, with another token.
func TestC4AnOldLoadAgainstANewLease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		read, letOldGo := s.holdNext()
		defer letOldGo()
		old := getAsync(soon(t), f[0], "k")
		wait(t, "the old load", read)
		s.write("k")
		require.NoError(t, f[1].Invalidate(soon(t), "k"))
		read, letNewGo := s.holdNext()
		defer letNewGo()
		fresh := getAsync(soon(t), f[1], "k")
		wait(t, "the new load", read)

		letOldGo()
		require.Equal(t, result{val: 0}, wait(t, "the old load", old))
		require.EqualValues(t, 1, f[0].Stats().Refused)
		letNewGo()
		require.Equal(t, result{val: 1}, wait(t, "the new load", fresh))
		require.EqualValues(t, 1, f[1].Stats().Fills)
		require.Equal(t, 1, get(t, f[0], "k"))
	})
}

// stopCodec stops the decoding of the next value, so that a read from L2 stands still between its reply and L1.
type stopCodec struct {
	codec.Codec
	stop atomic.Pointer[func()]
}

func (s *stopCodec) Unmarshal(b []byte, v any) error {
	if f := s.stop.Swap(nil); f != nil {
		(*f)()
	}
	return s.Codec.Unmarshal(b, v)
}

// holdNext is source.holdNext for a decoding.
func (s *stopCodec) holdNext() (reached <-chan struct{}, letGo func()) {
	in, gate := make(chan struct{}), make(chan struct{})
	stop := func() { close(in); <-gate }
	s.stop.Store(&stop)
	return in, sync.OnceFunc(func() { close(gate) })
}

// The ticket: a read from L2 has the old value in its hands when the invalidation comes.
func TestAnOldReadFromRedisDoesNotEnterL1(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"its own invalidation", "another instance's"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				stop := &stopCodec{Codec: codec.JSON}
				writer := instance(t, r, s, func(o *Options[int]) { o.Codec = codec.JSON })
				reader := instance(t, r, s, func(o *Options[int]) { o.Codec = stop })
				require.Equal(t, 0, get(t, writer, "k"))

				in, letGo := stop.holdNext()
				defer letGo()
				old := getAsync(soon(t), reader, "k")
				wait(t, "the read", in)
				s.write("k")
				if who == "another instance's" {
					received := reader.Stats().Received
					require.NoError(t, writer.Invalidate(soon(t), "k"))
					eventually(t, "the reader has heard", func() bool { return reader.Stats().Received > received })
				} else {
					require.NoError(t, reader.Invalidate(soon(t), "k"))
				}
				// A4 of the review, C2: it must not join the read that has the old value already.
				require.Equal(t, 1, get(t, reader, "k"))
				letGo()
				require.Equal(t, result{val: 0}, wait(t, "the old read", old))
				require.Equal(t, 1, get(t, reader, "k"))
			})
		})
	}
}

// The second eviction. Between the first one and the script a Get reads the old value from Redis: it must not stay in L1,
// and a flight that has it must not be joined.
func TestC2TheEvictionAfterTheScript(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*Cache[int], *source) error{
		"Invalidate": func(c *Cache[int], s *source) error { s.write("k"); return c.Invalidate(context.Background(), "k") },
		"Set":        func(c *Cache[int], s *source) error { return c.Set(context.Background(), "k", s.write("k")) },
	} {
		for _, flying := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, flight under way %v", name, flying), func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, r rig) {
					s := newSource()
					stop := &stopCodec{Codec: codec.JSON}
					// The bus is deaf from here on: its own message must not be what evicts.
					c := instance(t, r, s, func(o *Options[int]) {
						o.Codec, o.MaxStaleness, o.TTL = stop, time.Hour, time.Hour
					})
					trustsRedis(t, c) // or what was loaded before is not read from there
					require.Equal(t, 0, get(t, c, "k"))

					var old <-chan result
					letGo := func() {}
					var once sync.Once
					r.intercept(func(cmd string, args []string) error {
						if isInvalidate(cmd, args) || isSet(cmd, args) {
							once.Do(func() { // the first eviction is over, the script has not run
								if !flying {
									if v, err := c.Get(soon(t), "k"); v != 0 || err != nil {
										t.Errorf("in between: %d, %v", v, err)
									}
									return
								}
								var in <-chan struct{}
								in, letGo = stop.holdNext()
								old = getAsync(soon(t), c, "k")
								wait(t, "the read in between", in)
							})
						}
						return nil
					})
					deafen(c, "k") // no message is heard, whatever Redis publishes
					require.NoError(t, write(c, s))
					r.up()
					require.Equal(t, 1, get(t, c, "k"))
					letGo()
					if flying {
						require.Equal(t, result{val: 0}, wait(t, "the old read", old))
					}
					require.Equal(t, 1, get(t, c, "k"))
				})
			})
		}
	}
}

// C3 without any message: a process that no longer hears must not hand a slow load's value to readers of a later time.
func TestC3AnOldFlightIsNotJoined(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s, func(o *Options[int]) { o.MaxStaleness, o.LeaseWait = time.Second, 50*time.Millisecond })
		// Right after the start nobody joins a flight, whatever its age.
		eventually(t, "a heartbeat of the session", func() bool { return keeps(f[0]) })
		read, letGo := s.holdNext()
		defer letGo()
		slow := getAsync(soon(t), f[0], "k")
		wait(t, "the load", read)
		deafen(f[0], "k") // deaf
		f[0].local.End(l1PartOf(f[0], "k"))
		s.write("k")
		require.NoError(t, f[1].Invalidate(soon(t), "k"))
		deadline := time.Now().Add(f[0].opts.MaxStaleness)
		eventually(t, "the bound has passed", func() bool { return time.Now().After(deadline) })
		require.Equal(t, 1, get(t, f[0], "k"))
		letGo()
		require.Equal(t, 0, wait(t, "the slow load", slow).val)
	})
}
