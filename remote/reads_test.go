package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// toll stops every round trip of a client until it is let through, and counts them.
type toll struct {
	singles, pipelines atomic.Int64
	longest            atomic.Int64
	stopped            chan chan struct{} // one for each that has come
}

func (h *toll) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *toll) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hget" {
			h.singles.Add(1)
			h.pay()
		}
		return next(ctx, cmd)
	}
}

func (h *toll) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "hget" { // go-redis greets a server with a pipeline
			h.pipelines.Add(1)
			h.longest.Store(max(h.longest.Load(), int64(len(cmds))))
			h.pay()
		}
		return next(ctx, cmds)
	}
}

func (h *toll) pay() {
	if h.stopped != nil {
		pass := make(chan struct{})
		h.stopped <- pass
		<-pass
	}
}

// road is a server with values under k0, k1, ..., and reads of them that pay toll.
type road struct {
	*testing.T
	*reads
	toll   *toll
	server *miniredis.Miniredis
}

func newRoad(t *testing.T, limit, values int, stop bool) *road {
	t.Helper()
	server := miniredis.RunT(t)
	for i := range values {
		server.HSet(fmt.Sprint("k", i), "f", fmt.Sprint("v", i))
	}
	h := &toll{}
	if stop {
		h.stopped = make(chan chan struct{})
	}
	rdb := newClient(t, server.Addr())
	rdb.AddHook(h)
	return &road{T: t, reads: &reads{client: rdb, field: "f", limit: limit}, toll: h, server: server}
}

func entryOf(i int) entry { return entry{key: fmt.Sprint("k", i), part: &part{}} }

// start reads k<i> on a goroutine of its own.
func (r *road) start(ctx context.Context, i int) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		value, err := r.get(ctx, entryOf(i))
		done <- answer{value, err}
	}()
	return done
}

func (r *road) queued(n int) {
	r.Helper()
	require.Eventually(r, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.queue) == n
	}, patience, time.Millisecond)
}

func (r *road) idle() {
	r.Helper()
	require.Eventually(r, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.trips == 0 && r.shared == 0 && len(r.queue) == 0
	}, patience, time.Millisecond)
}

func TestReadsBeyondTheLimitShareARoundTrip(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 2, 5, true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := []<-chan answer{r.start(ctx, 0)}
	first := <-r.toll.stopped
	answers = append(answers, r.start(ctx, 1))
	second := <-r.toll.stopped
	for i := 2; i < 5; i++ {
		answers = append(answers, r.start(ctx, i))
		r.queued(i - 1)
	}
	close(first)
	shared := <-r.toll.stopped
	close(second)
	close(shared)
	for i, a := range answers {
		got := <-a
		require.NoError(t, got.err)
		require.Equal(t, fmt.Sprint("v", i), string(got.value))
	}
	require.EqualValues(t, 2, r.toll.singles.Load())
	require.EqualValues(t, 1, r.toll.pipelines.Load())
	require.EqualValues(t, 3, r.toll.longest.Load())
	r.idle()
}

func TestReadsAreSingleWhereSharingIsOff(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, -1, 50} {
		r := newRoad(t, limit, 50, false)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				value, err := r.get(t.Context(), entryOf(i))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("v", i), string(value))
			})
		}
		wg.Wait()
		require.EqualValues(t, 50, r.toll.singles.Load(), limit)
	}
}

// Each obeys its own context while it waits for a trip and during one, and the others are answered.
func TestAReadThatShares(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 1, 3, true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	alone := r.start(ctx, 0)
	first := <-r.toll.stopped

	leavesEarly, leaveEarly := context.WithCancel(ctx)
	early := r.start(leavesEarly, 1)
	r.queued(1)
	leavesLate, leaveLate := context.WithCancel(ctx)
	late := r.start(leavesLate, 1)
	r.queued(2)
	stays := r.start(ctx, 2)
	r.queued(3)

	leaveEarly()
	require.ErrorIs(t, (<-early).err, context.Canceled, "while it waits for a trip")
	close(first)
	require.NoError(t, (<-alone).err)
	shared := <-r.toll.stopped
	require.EqualValues(t, 2, r.toll.longest.Load(), "who has left is not asked for")
	leaveLate()
	require.ErrorIs(t, (<-late).err, context.Canceled, "during the trip")
	close(shared)
	got := <-stays
	require.NoError(t, got.err)
	require.Equal(t, "v2", string(got.value))
	r.idle()
}

func TestATripLastsAsLongAsItsMostPatientReader(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 1, 0, true)
	short, cancelShort := context.WithTimeout(t.Context(), time.Minute)
	defer cancelShort()
	long, cancelLong := context.WithTimeout(t.Context(), time.Hour)
	defer cancelLong()
	ctx, cancel, present := r.until([]*read{{ctx: long}, {ctx: short}})
	defer cancel()
	at, _ := ctx.Deadline()
	want, _ := long.Deadline()
	require.Equal(t, want, at)
	require.Len(t, present, 2)

	ctx, cancel, _ = r.until([]*read{{ctx: short}, {ctx: t.Context()}})
	defer cancel()
	_, bounded := ctx.Deadline()
	require.False(t, bounded)
}

// A server that does not answer holds a trip until its deadline, and then the queue goes on.
func TestATripThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 1, 2, false)
	silent := &silence{}
	r.client.AddHook(silent)
	silent.on.Store(true)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var answers []<-chan answer
	for range 20 {
		answers = append(answers, r.start(short, 0))
	}
	for _, a := range answers {
		require.ErrorIs(t, (<-a).err, context.DeadlineExceeded)
	}
	silent.on.Store(false)
	r.idle()
	value, err := r.get(t.Context(), entryOf(1))
	require.NoError(t, err)
	require.Equal(t, "v1", string(value))
}

// silence has a client wait for the end of each context.
type silence struct{ on atomic.Bool }

func (h *silence) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *silence) wait(ctx context.Context) error {
	if !h.on.Load() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *silence) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.wait(ctx); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (h *silence) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.wait(ctx); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

// What one reader of a trip finds is nothing to the others.
func TestEachReaderOfATripHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 1, 4, false)
	r.server.Del("k1")
	require.NoError(t, r.server.Set("k1", "no hash"))
	r.server.Del("k2")
	for range 20 {
		var answers []<-chan answer
		for i := range 4 {
			answers = append(answers, r.start(t.Context(), i))
		}
		for i, a := range answers {
			got := <-a
			switch i {
			case 1:
				require.ErrorContains(t, got.err, "WRONGTYPE")
			case 2:
				require.ErrorIs(t, got.err, redis.Nil)
			default:
				require.NoError(t, got.err)
				require.Equal(t, fmt.Sprint("v", i), string(got.value))
			}
		}
	}
}

// A value that is too long ends the connection of the trip.
func TestAValueThatIsTooLongForATrip(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 1, 8, true)
	r.server.HSet("k3", "f", strings.Repeat("x", 3<<20))
	derived, err := redisclient.Derive(newClient(t, r.server.Addr()), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, derived.Close()) })
	derived.AddHook(r.toll)
	r.client = derived
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := []<-chan answer{r.start(ctx, 0)}
	first := <-r.toll.stopped
	for i := 1; i < 8; i++ {
		answers = append(answers, r.start(ctx, i))
		r.queued(i)
	}
	close(first)
	go func() {
		for pass := range r.toll.stopped {
			close(pass)
		}
	}()
	defer close(r.toll.stopped)
	for i, a := range answers {
		got := <-a
		if i == 3 {
			require.ErrorIs(t, got.err, redisclient.ErrTooLong)
			continue
		}
		require.NoError(t, got.err, i)
		require.Equal(t, fmt.Sprint("v", i), string(got.value))
	}
	r.idle()
}

func TestReadsUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRoad(t, 3, 100, false)
	var wg sync.WaitGroup
	var left atomic.Int64
	for g := range 32 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if (g+i)%10 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Microsecond)
				}
				n := (g*7 + i) % 100
				value, err := r.get(ctx, entryOf(n))
				cancel()
				if err != nil {
					if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					left.Add(1)
					continue
				}
				if string(value) != fmt.Sprint("v", n) {
					t.Errorf("k%d is %s", n, value)
				}
			}
		})
	}
	wg.Wait()
	r.idle()
	require.Positive(t, r.toll.pipelines.Load())
	require.Less(t, left.Load(), int64(32*200/5))
}
