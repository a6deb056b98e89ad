package remote

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// maxTogether is how many reads share a round trip at most: enough for the trip to cost next to nothing for each, and few
// enough that one large value among them does not hold up many.
const maxTogether = 128

// enough is how many have to wait for a shared trip to be made beside another one: with fewer, trips get smaller and more, and
// with many more Redis and this process wait for each other in turn.
const enough = 24

// reads read fields of hashes. Few at once are a command each, which answers soonest. Where more than limit are under way,
// the rest waits for one of the round trips to end and shares the next one, as a pipeline: that is several times the
// throughput, and under such a load also the shorter wait. While one shared trip is under way, all others wait for the next;
// there are more of them, up to limit, where enough wait.
//
// go-redis has pipelines that fill by themselves (AutoPipeline), and they are not used: a batch there obeys none of its
// callers' contexts and only the client's own timeouts, of which ours has none; it is sent again as a whole when its
// connection fails; and with one caller it takes twice the time.
type reads struct {
	client redis.UniversalClient
	field  string
	tagged bool           // most values tell tags
	sent   *atomic.Uint64 // counts commands beyond one a read
	limit  int            // round trips at once, not positive: no sharing

	mu     sync.Mutex // protects what follows; never held over a round trip
	trips  int        // under way
	shared int        // of them
	// queue has those who wait for a trip to end, and is empty while none is under way. Who leaves stays in it until the next
	// trip begins, which a trip's deadline brings.
	queue []*read
}

// read is one who waits.
type read struct {
	ctx   context.Context //nolint:containedctx // it is a call
	entry entry
	done  chan answer // has room for the answer: nobody need be there for it
}

// entry is where an entry is: its key in Redis, and its partition. One trip is shared by reads of any partitions.
type entry struct {
	key  string
	part *part
}

type answer struct {
	value []byte
	err   error
}

// get returns the field of the entry's hash, redis.Nil if there is none. It returns when ctx ends.
func (r *reads) get(ctx context.Context, e entry) ([]byte, error) {
	if r.limit <= 0 {
		return r.alone(ctx, e)
	}
	r.mu.Lock()
	if r.trips < r.limit && r.shared == 0 {
		r.trips++
		r.mu.Unlock()
		defer r.next()
		return r.alone(ctx, e)
	}
	waiting := &read{ctx: ctx, entry: e, done: make(chan answer, 1)}
	r.queue = append(r.queue, waiting)
	var batch []*read
	if len(r.queue) >= enough && r.trips < r.limit {
		r.trips++
		batch = r.takeLocked()
	}
	r.mu.Unlock()
	if batch != nil {
		go r.drain(batch)
	}
	select {
	case a := <-waiting.done:
		return a.value, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// alone asks for one. What tells tags is asked for by a script, which looks at the tags; at once where most values are like that.
func (r *reads) alone(ctx context.Context, e entry) ([]byte, error) {
	if r.tagged {
		return r.standing(ctx, e)
	}
	value, err := r.client.HGet(ctx, e.key, r.field).Bytes()
	if err == nil && tellsTags(value) {
		r.sent.Add(1)
		return r.standing(ctx, e)
	}
	return value, err
}

// all asks for several in one round trip, or two.
func (r *reads) all(ctx context.Context, entries []entry) []answer {
	if r.tagged {
		return r.standingMany(ctx, entries)
	}
	pipe := r.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(entries))
	for i, e := range entries {
		cmds[i] = pipe.HGet(ctx, e.key, r.field)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	out := make([]answer, len(entries))
	var tagged []entry
	var at []int
	for i, cmd := range cmds {
		out[i].value, out[i].err = cmd.Bytes()
		if out[i].err == nil && tellsTags(out[i].value) {
			tagged, at = append(tagged, entries[i]), append(at, i)
		}
	}
	if len(tagged) > 0 {
		r.sent.Add(uint64(len(tagged)))
		for n, a := range r.standingMany(ctx, tagged) {
			out[at[n]] = a
		}
	}
	return out
}

// next gives a single trip that has ended to those who wait, or back.
func (r *reads) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shared > 0 || len(r.queue) == 0 {
		r.trips--
		return
	}
	go r.drain(r.takeLocked()) // the caller has its answer
}

// takeLocked returns who makes a shared trip. The queue is not empty.
func (r *reads) takeLocked() []*read {
	r.shared++
	n := min(len(r.queue), maxTogether)
	batch := r.queue[:n:n]
	r.queue = r.queue[n:]
	return batch
}

// drain makes shared trips until nobody waits.
func (r *reads) drain(batch []*read) {
	for batch != nil {
		r.together(batch)
		batch = r.again()
	}
}

// again returns who makes the next shared trip on the place of one that has ended; nobody means that the place is given back.
func (r *reads) again() []*read {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shared--
	if len(r.queue) > 0 && (r.shared == 0 || len(r.queue) >= enough) {
		return r.takeLocked()
	}
	r.trips--
	if len(r.queue) == 0 {
		r.queue = nil // what a burst has made it grow to
	}
	return nil
}

// together answers a batch in one round trip. A value that is too long to be read ends its connection, and takes answers of
// others with it; then each that is lost is asked for alone.
func (r *reads) together(batch []*read) {
	ctx, cancel, present := r.until(batch)
	defer cancel()
	if len(present) == 0 {
		return
	}
	entries := make([]entry, len(present))
	for i, one := range present {
		entries[i] = one.entry
	}
	for i, a := range r.all(ctx, entries) {
		if errors.Is(a.err, redisclient.ErrTooLong) && len(present) > 1 {
			a.value, a.err = r.alone(ctx, entries[i])
		}
		present[i].done <- a
	}
}

// until leaves out who has left, and returns a context that lasts as long as the most patient of the others.
func (r *reads) until(batch []*read) (context.Context, context.CancelFunc, []*read) {
	var latest time.Time
	bounded := true
	present := make([]*read, 0, len(batch))
	for _, one := range batch {
		if one.ctx.Err() != nil {
			continue
		}
		present = append(present, one)
		at, ok := one.ctx.Deadline()
		bounded = bounded && ok
		if at.After(latest) {
			latest = at
		}
	}
	if !bounded || len(present) == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		return ctx, cancel, present
	}
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	return ctx, cancel, present
}

// wrongType reports whether the key holds something else than a hash.
func wrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }
