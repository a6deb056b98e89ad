package history

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

const (
	maxSamples = 8  // violations that are kept whole
	keptWrites = 24 // of each key, for the story around a violation
)

// Options configure a Checker.
type Options struct {
	Keys  int
	Bound time.Duration // C3's
	// Committed returns the newest version of a key in the source now.
	Committed func(key int) int64
}

// Checker judges reads as the records come in. Its methods may be called concurrently.
type Checker struct {
	opts Options

	mu        sync.Mutex         // protects what follows
	instances map[int]int64      // up to when the records of each are complete
	left      map[int]struct{}   // instances of which reads wait, and nothing more comes
	all       []stairs           // by key: acknowledged for everyone
	own       map[ownKey]*stairs // acknowledged for the writing instance
	writes    []ring             // by key
	judged    int64              // reads that started before are judged
	waiting   map[int][]Read     // by instance, in the order of arrival
	result    Result
}

type ownKey struct{ instance, key int }

// Result is what was found so far.
type Result struct {
	Reads   int // judged
	Failed  int // reads that returned an error
	Acked   int // writes acknowledged with nil
	Pending int // writes that were left to the background
	Settled int // of which got through since
	Refused int // writes that failed otherwise
	C2, C3  int // reads that violate it; one that violates both counts in both
	Unreal  int // reads of a version that the source never had
	Late    int // records that came too late to judge by, and reads too late to be judged: a mistake of the harness
	Worst   time.Duration
	Samples []Violation
	Errors  map[string]int // of failed reads
}

// Violation is a read that the contract forbids, with what happened around it.
type Violation struct {
	Rule     string
	Read     Read
	Required int64 // the version that had to be returned at least
	Since    int64 // when that was acknowledged
	Writes   []Write
}

// New returns a Checker of histories over keys 0 to Keys-1.
func New(opts Options) *Checker {
	return &Checker{
		opts:      opts,
		instances: map[int]int64{},
		left:      map[int]struct{}{},
		all:       make([]stairs, opts.Keys),
		own:       map[ownKey]*stairs{},
		writes:    make([]ring, opts.Keys),
		waiting:   map[int][]Read{},
		judged:    math.MinInt64,
		result:    Result{Errors: map[string]int{}},
	}
}

// Join announces an instance whose records all end after now. Numbers are not used twice.
func (c *Checker) Join(number int, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instances[number] = now
}

// Leave says that nothing more comes from the instance.
func (c *Checker) Leave(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.instances, number)
	c.left[number] = struct{}{}
	c.judgeLocked()
}

// Add takes a batch, and judges what can be judged with it.
func (c *Checker) Add(b Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range b.Writes {
		c.addWriteLocked(w)
	}
	for _, s := range b.Settled {
		c.result.Settled++
		c.ackLocked(&c.all[s.Key], s.At, s.Version)
	}
	c.waiting[b.Instance] = append(c.waiting[b.Instance], b.Reads...)
	if complete, ok := c.instances[b.Instance]; ok {
		c.instances[b.Instance] = max(complete, b.Complete)
	}
	c.judgeLocked()
}

func (c *Checker) addWriteLocked(w Write) {
	c.writes[w.Key].add(w)
	switch w.Outcome {
	case Acked:
		c.result.Acked++
		c.ackLocked(&c.all[w.Key], w.End, w.Version)
		c.ackLocked(c.ownLocked(w.Instance, w.Key), w.End, w.Version)
	case Pending:
		c.result.Pending++
		c.ackLocked(c.ownLocked(w.Instance, w.Key), w.End, w.Version)
	case Failed:
		c.result.Refused++
	}
}

func (c *Checker) ackLocked(s *stairs, at, version int64) {
	if at < c.judged {
		c.result.Late++
	}
	s.add(at, version)
}

func (c *Checker) ownLocked(instance, key int) *stairs {
	k := ownKey{instance, key}
	if c.own[k] == nil {
		c.own[k] = &stairs{}
	}
	return c.own[k]
}

// judgeLocked judges the reads that started before the time up to which every instance's writes are known.
func (c *Checker) judgeLocked() {
	complete := int64(math.MaxInt64)
	for _, of := range c.instances {
		complete = min(complete, of)
	}
	if complete <= c.judged {
		return
	}
	c.judged = complete
	for number, reads := range c.waiting {
		rest := reads[:0]
		for _, r := range reads {
			if r.Start < complete {
				c.judgeReadLocked(r)
			} else {
				rest = append(rest, r)
			}
		}
		c.waiting[number] = rest
	}
	for number := range c.left {
		if len(c.waiting[number]) == 0 {
			c.forgetLocked(number)
		}
	}
}

func (c *Checker) forgetLocked(number int) {
	delete(c.left, number)
	delete(c.waiting, number)
	for k := range c.own {
		if k.instance == number {
			delete(c.own, k)
		}
	}
}

func (c *Checker) judgeReadLocked(r Read) {
	if r.Err != "" {
		c.result.Failed++
		if len(c.result.Errors) < maxSamples || c.result.Errors[r.Err] > 0 {
			c.result.Errors[r.Err]++
		}
		return
	}
	c.result.Reads++
	if c.opts.Committed != nil && (r.Version > c.opts.Committed(r.Key) || r.Version < 0) {
		c.result.Unreal++
		c.sampleLocked("unreal", r, step{})
	}
	if s, ok := c.all[r.Key].newer(r.Version); ok && s.at < r.Start {
		c.result.Worst = max(c.result.Worst, time.Duration(r.Start-s.at))
	}
	if own := c.own[ownKey{r.Instance, r.Key}]; own != nil {
		switch need, known := own.required(r.Start); {
		case !known:
			c.result.Late++
		case r.Version < need.version:
			c.result.C2++
			c.sampleLocked("C2", r, need)
		}
	}
	// s > a + bound: one nanosecond less than the bound is still allowed.
	switch need, known := c.all[r.Key].required(r.Start - int64(c.opts.Bound) - 1); {
	case !known:
		c.result.Late++
	case r.Version < need.version:
		c.result.C3++
		c.sampleLocked("C3", r, need)
	}
}

func (c *Checker) sampleLocked(rule string, r Read, need step) {
	if len(c.result.Samples) < maxSamples {
		c.result.Samples = append(c.result.Samples, Violation{
			Rule: rule, Read: r, Required: need.version, Since: need.at, Writes: c.writes[r.Key].all(),
		})
	}
}

// Result returns what was found so far; Waiting reads are not in it.
func (c *Checker) Result() Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.result
	r.Samples = append([]Violation(nil), r.Samples...)
	return r
}

// Waiting returns how many reads are not judged yet.
func (c *Checker) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, reads := range c.waiting {
		n += len(reads)
	}
	return n
}

// ring keeps the last writes of one key.
type ring struct {
	writes []Write
	next   int
}

func (r *ring) add(w Write) {
	if len(r.writes) < keptWrites {
		r.writes = append(r.writes, w)
		return
	}
	r.writes[r.next] = w
	r.next = (r.next + 1) % keptWrites
}

func (r *ring) all() []Write {
	return append(append([]Write(nil), r.writes[r.next:]...), r.writes[:r.next]...)
}

// String tells the story: times are in milliseconds before the read's start.
func (v Violation) String() string {
	ms := func(t int64) float64 { return float64(t-v.Read.Start) / 1e6 }
	var s strings.Builder
	fmt.Fprintf(&s, "%s: instance %d read version %d of key %d in [0, %+.3f] ms (clock %d); version %d was due since %+.3f ms",
		v.Rule, v.Read.Instance, v.Read.Version, v.Read.Key, ms(v.Read.End), v.Read.Start, v.Required, ms(v.Since))
	for _, w := range v.Writes {
		op := "Invalidate"
		if w.Set {
			op = "Set"
		}
		fmt.Fprintf(&s, "\n\tversion %d: committed %+.3f ms, %s on instance %d in [%+.3f, %+.3f] ms: %s %s",
			w.Version, ms(w.Commit), op, w.Instance, ms(w.Start), ms(w.End), w.Outcome, w.Err)
	}
	return s.String()
}

// String names the outcome.
func (o Outcome) String() string { return [...]string{"acknowledged", "pending", "failed"}[o] }
