package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

const (
	hostileTime = 2 * time.Second
	hugeBytes   = 64 << 20
)

// attacked is two instances under which a vandal writes, with everything that must stay bounded.
type attacked struct {
	*listening
	// bare is an instance without L1: each of its reads meets what the vandal has written.
	bare     *cache
	log      *logbook
	heap     *heapWatch
	field    string // of an entry's envelope
	envelope string // a real one
	actions  atomic.Int64
}

func newAttacked(t *testing.T) *attacked {
	t.Helper()
	leavesNothing(t)
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	a := &attacked{log: &logbook{}}
	change := func(o *tiered.Options[value]) { o.MaxStaleness, o.LeaseWait = listenBound, 20*time.Millisecond }
	a.listening = &listening{
		judge: newJudge(s, listenBound), proxy: p, admin: client(t, srv.Addr()),
		writer: instance(t, srv.Addr(), s, a.log, change), reader: instance(t, p.addr(), s, a.log, change),
	}
	a.bare = instance(t, srv.Addr(), s, a.log, change, func(o *tiered.Options[value]) { o.LocalTTL = tiered.Off })
	trusted(t, a.writer, a.reader, a.bare)
	a.field, a.envelope = kept(t, a.writer, a.admin, watched[0])
	stopReader, stopBare := a.readers(1, a.reader, false, watched...), a.readers(1, a.bare, false, watched...)
	a.listening.stop = func() { stopReader(); stopBare() }
	t.Cleanup(a.stop)
	a.heap = watchHeap(t)
	return a
}

// vandals is how many write at once, each without waiting for what it wrote before.
const vandals = 2

// attack calls act at full speed for a while, during which the keys are also written as they should be.
func (a *attacked) attack(t *testing.T, batch int, act func(*rand.Rand, redis.Pipeliner)) (writes int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	over := make(chan struct{})
	var all sync.WaitGroup
	for n := range vandals {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				// The commands' outcomes do not matter.
				_, _ = a.admin.Pipelined(context.Background(), func(p redis.Pipeliner) error {
					for range batch {
						act(rng, p)
					}
					return nil
				})
				a.actions.Add(int64(batch))
			}
		})
	}
	writes = a.writeFor(t, hostileTime)
	close(over)
	all.Wait()
	return writes
}

// survive checks what must hold after it.
func (a *attacked) survive(t *testing.T, what string, peak uint64) {
	t.Helper()
	lines, clientLines := a.log.count(""), clientLog.count("")
	a.finish(t, what)
	grown, highest := a.heap.end()
	t.Logf("writes not confirmed %d; bad entries %d, unreadable messages %d; heap grown by %d kB after a collection, at most by %d MB; %d log lines, %d of go-redis",
		a.unconfirmed, a.reader.Stats().BadEntries+a.bare.Stats().BadEntries, a.reader.Stats().Unreadable, grown>>10, highest>>20, lines, clientLines)
	require.Less(t, grown, int64(16<<20))
	require.Less(t, highest, int64(peak))
	require.Less(t, lines, 60, "each cause once a minute")
}

func do(p redis.Pipeliner, args ...any) { p.Do(context.Background(), args...) }

func noise(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// spoil returns a damaged copy: truncated, with some bits flipped, or with something after it.
func spoil(rng *rand.Rand, s string) string {
	switch rng.IntN(3) {
	case 0:
		return s[:rng.IntN(len(s))]
	case 1:
		b := []byte(s)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		if string(b) == s { // flipped back
			b[0]++
		}
		return string(b)
	default:
		return s + noise(rng, 1+rng.IntN(20))
	}
}

// C7 against a client that writes under our keys at full speed.
func TestAVandalUnderTheKeys(t *testing.T) {
	a := newAttacked(t)
	large := strings.Repeat("x", 2<<20) // over MaxEntryBytes
	epoch := "tandem:{" + cacheName + "}:epoch"
	writes := a.attack(t, 20, func(rng *rand.Rand, p redis.Pipeliner) {
		key := entry(watched[rng.IntN(len(watched))])
		suffix := []string{"", ".l", ".w"}[rng.IntN(3)]
		switch rng.IntN(40) {
		case 0: // another type; it stays until a load replaces it
			do(p, "SET", key, noise(rng, 100))
		case 1:
			do(p, "DEL", key)
			do(p, "RPUSH", key, a.envelope)
		case 2:
			do(p, "SET", epoch, noise(rng, rng.IntN(20)))
		case 3:
			do(p, "DEL", epoch)
			do(p, "SADD", epoch, "member")
		case 4:
			if rng.IntN(20) == 0 {
				do(p, "HSET", key, a.field+suffix, large)
			}
		case 5, 6, 7, 8:
			do(p, "HSET", key, noise(rng, 10), noise(rng, 10))
		case 9, 10, 11, 12, 13, 14:
			do(p, "HSET", key, a.field+suffix, noise(rng, rng.IntN(200)))
		default:
			do(p, "HSET", key, a.field, spoil(rng, a.envelope))
		}
	})
	a.survive(t, fmt.Sprintf("%d hostile commands, %d writes", a.actions.Load(), writes), 256<<20)
}

// Fields of 64 MB: each read of one costs its transfer, and no more than a Redis wait.
func TestHugeFields(t *testing.T) {
	a := newAttacked(t)
	huge := strings.Repeat("x", hugeBytes)
	a.heap = watchHeap(t)
	writes := a.attack(t, 1, func(rng *rand.Rand, p redis.Pipeliner) {
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		do(p, "HSET", entry(watched[rng.IntN(len(watched))]), a.field, huge)
	})
	a.survive(t, fmt.Sprintf("%d fields of %d MB, %d writes", a.actions.Load(), hugeBytes>>20, writes), hugeBytes)
	runtime.KeepAlive(huge)
}

// C3 against a client that publishes on our channels at full speed, heartbeats that it has overheard among it.
func TestAVandalOnTheBus(t *testing.T) {
	a := newAttacked(t)
	var inboxes []string
	eventually(t, "all have subscribed", func() bool {
		inboxes = a.admin.PubSubChannels(soon(t), "tandem:inst:*").Val()
		return len(inboxes) == 3
	})
	overheard := overhear(t, client(t, a.admin.Options().Addr), append(inboxes, channel)...)
	large := strings.Repeat("x", 2<<20)
	writes := a.attack(t, 20, func(rng *rand.Rand, p redis.Pipeliner) {
		to := append(inboxes, channel, channel)[rng.IntN(5)]
		switch n := rng.IntN(10); {
		case n < 2:
			do(p, "PUBLISH", to, noise(rng, rng.IntN(300)))
		case n < 6:
			do(p, "PUBLISH", to, spoil(rng, overheard.pick(rng)))
		case n < 8:
			// On the private channels even an intact one must do nothing. On the cache's it is an invalidation.
			do(p, "PUBLISH", inboxes[rng.IntN(3)], overheard.pick(rng))
		case n < 9:
			do(p, "PUBLISH", inboxes[rng.IntN(3)], fmt.Sprintf("tandem/1 wake %d:%s,2:%s,6:filled,", len(channel), channel, watched[0]))
		default:
			if rng.IntN(100) == 0 {
				do(p, "PUBLISH", to, large)
			}
		}
	})
	a.survive(t, fmt.Sprintf("%d hostile messages, %d writes", a.actions.Load(), writes), 256<<20)
}

// Messages of 64 MB, over the server's own limit for subscribers and within it.
func TestHugeMessages(t *testing.T) {
	for name, limit := range map[string]string{"cut off by the server": "32mb", "delivered": "1gb"} {
		t.Run(name, func(t *testing.T) {
			a := newAttacked(t)
			require.NoError(t, a.admin.ConfigSet(soon(t), "client-output-buffer-limit", "pubsub "+limit+" 0 0").Err())
			huge := strings.Repeat("x", hugeBytes)
			a.heap = watchHeap(t)
			writes := a.attack(t, 1, func(rng *rand.Rand, p redis.Pipeliner) {
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				do(p, "PUBLISH", channel, huge)
			})
			a.survive(t, fmt.Sprintf("%d messages of %d MB, %d writes", a.actions.Load(), hugeBytes>>20, writes), hugeBytes)
			runtime.KeepAlive(huge)
		})
	}
}

// A lease that nobody took and that does not end, in an entry that does not either, costs no reader more than a lease's TTL.
func TestAForeignLease(t *testing.T) {
	for name, lease := range map[string]string{
		"far in the future": "9999999999999:" + strings.Repeat("a", 32),
		"infinite":          "inf          :" + strings.Repeat("a", 32),
		"no number":         "soon         :" + strings.Repeat("a", 32),
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := startRedis(t), newSource(0)
			raw := client(t, srv.Addr())
			c := ready(t, srv.Addr(), s, func(o *tiered.Options[value]) { o.LeaseWait = 10 * time.Millisecond; o.LocalTTL = tiered.Off })
			field, _ := kept(t, c, raw, "k")
			require.NoError(t, raw.Del(soon(t), entry("k")).Err())
			require.NoError(t, raw.HSet(soon(t), entry("k"), field+".l", lease).Err())
			began := time.Now()
			for fills := c.Stats().Fills; c.Stats().Fills == fills; {
				get(t, c, "k")
				require.Less(t, time.Since(began), 3*time.Second+slack, "the entry is never cached again")
			}
			t.Logf("cached again after %v", round(time.Since(began)))
		})
	}
}

// C7: another Redis type under a key is a bad entry like any other: counted and logged.
func TestAnotherTypeIsCounted(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	raw, log := client(t, srv.Addr()), &logbook{}
	c := instance(t, srv.Addr(), s, log, func(o *tiered.Options[value]) { o.RedisTimeout = patience })
	trusted(t, c)
	require.NoError(t, raw.Set(soon(t), entry("k"), "a string", 0).Err())
	require.Zero(t, get(t, c, "k"))
	require.EqualValues(t, 1, c.Stats().BadEntries)
	eventually(t, "it is logged once", func() bool { return log.count("cannot be used") == 1 })
}

// C7: an entry over the limit is replaced by a load, however far over, and says nothing about Redis' health.
func TestAnEntryOverTheLimitIsReplaced(t *testing.T) {
	for _, size := range []int{2 << 20, hugeBytes} {
		t.Run(fmt.Sprint(size>>20, " MB"), func(t *testing.T) {
			srv, s := startRedis(t), newSource(0)
			raw := client(t, srv.Addr())
			c := ready(t, srv.Addr(), s, func(o *tiered.Options[value]) {
				o.LocalTTL = tiered.Off
				o.MaxStaleness, o.RedisTimeout = time.Minute, 5*time.Second // on a busy machine, 64 MB keep Redis busy for a while
			})
			keys := []string{"a", "b", "c", "d"} // more than it takes to open the breaker
			for _, key := range keys {
				field, _ := kept(t, c, raw, key)
				require.NoError(t, raw.HSet(soon(t), entry(key), field, strings.Repeat("x", size)).Err())
			}
			for _, key := range keys {
				require.Zero(t, get(t, c, key))
			}
			loads := s.loads.Load()
			for _, key := range keys {
				require.Zero(t, get(t, c, key))
			}
			t.Logf("%d entries: bad entries %d, breaker opened %d times, loads for the second round %d",
				len(keys), c.Stats().BadEntries, c.Stats().BreakerOpened, s.loads.Load()-loads)
			require.EqualValues(t, len(keys), c.Stats().BadEntries)
			require.Zero(t, c.Stats().BreakerOpened)
			require.Equal(t, loads, s.loads.Load(), "Redis has them again")
		})
	}
}

// messages are what was heard on some channels.
type messages struct {
	mu  sync.Mutex
	all []string
}

func overhear(t *testing.T, rdb *redis.Client, channels ...string) *messages {
	t.Helper()
	m := &messages{all: []string{"tandem/1 inv 5:shell,2:w1,2:w2,", "tandem/1 all 5:shell,"}}
	ps := rdb.Subscribe(context.Background(), channels...)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			received, err := ps.Receive(context.Background())
			if err != nil {
				return
			}
			if message, ok := received.(*redis.Message); ok {
				m.keep(message.Payload)
			}
		}
	})
	t.Cleanup(func() {
		_ = ps.Close()
		wg.Wait()
	})
	return m
}

// keep remembers the last few.
func (m *messages) keep(payload string) {
	if !strings.HasPrefix(payload, "tandem/1 ") || len(payload) > 1000 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) > 100 {
		m.all = m.all[1:]
	}
	m.all = append(m.all, payload)
}

func (m *messages) pick(rng *rand.Rand) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[rng.IntN(len(m.all))]
}

// heapWatch samples the heap and the stacks.
type heapWatch struct {
	before, highest uint64
	over            chan struct{}
	done            sync.WaitGroup
	ending          sync.Once
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func watchHeap(t *testing.T) *heapWatch {
	t.Helper()
	runtime.GC()
	w := &heapWatch{before: heapNow(), over: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.over:
				return
			case <-tick.C:
				w.highest = max(w.highest, heapNow())
			}
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *heapWatch) stop() {
	w.ending.Do(func() { close(w.over) })
	w.done.Wait()
}

// end returns how much the heap has grown once garbage is collected, and at most in between.
func (w *heapWatch) end() (grown, highest int64) {
	w.stop()
	for range 3 { // what is in a pool lives through the first, and what has a finalizer, too
		runtime.GC()
	}
	return int64(heapNow()) - int64(w.before), int64(w.highest) - int64(w.before)
}
