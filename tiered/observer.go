package tiered

import (
	"context"
	"time"
)

// Observer is told what happens in a cache, for metrics and traces: Options.Observer. It must embed NopObserver, so that a
// later release can add a method.
//
// What can be counted, as hits in L1 are, is in Stats, and what is at a moment in Health.
//
// LoadStarted and LoadEnded are called by the goroutine that calls the loader, with no lock held: one that blocks is as a
// loader that takes longer, and LoadTimeout bounds what it holds up. Invalidating is called by whoever called Set or
// Invalidate, after the local copy was dropped and before Redis is told: one that blocks holds up that call alone. All other
// methods are called by a goroutine of their own, one after the other; up to 1024 events wait for it, further ones are dropped
// and counted in Stats.Unobserved: one that blocks holds up nothing, and Close for CloseTimeout at most.
//
// Methods are called concurrently. A panic is contained and logged. Contexts are for their values: they may have ended.
type Observer interface {
	// LoadStarted says that a loader is about to be called. It returns the context that the loader gets: ctx, or one made
	// from it.
	LoadStarted(ctx context.Context, e LoadStart) context.Context
	// LoadEnded says that a loader has returned, which, of one that ignores its context, may be long after LoadTimeout. ctx is
	// what LoadStarted has returned.
	LoadEnded(ctx context.Context, e LoadEnd)
	// RemoteCalled says that a call to Redis is over. Heartbeats are not among them.
	RemoteCalled(ctx context.Context, e RemoteCall)
	// Invalidating says that a Set, Invalidate or InvalidateAll is about to tell Redis. It returns a text that goes along
	// with the message to the Observers of the other instances, such as a W3C traceparent: at most 128 bytes of printable ASCII
	// without space and semicolon; anything else is left out. Where many calls are sent as one, the text of one goes along.
	Invalidating(ctx context.Context, e InvalidationStart) (carried string)
	// InvalidationReceived says that an invalidation was heard on the bus and has been applied, this process' own included.
	InvalidationReceived(e Invalidation)
	// SessionChanged says that the cache hears invalidations from now on, or does not. Each time L1 is emptied.
	SessionChanged(e Session)
	// Diverged says that an audit has found something: see Options.AuditEvery.
	Diverged(e Divergence)

	embedsNopObserver()
}

// NopObserver is an Observer that does nothing. Every Observer embeds it.
type NopObserver struct{}

var _ Observer = NopObserver{}

// LoadStarted returns ctx.
func (NopObserver) LoadStarted(ctx context.Context, _ LoadStart) context.Context { return ctx }

// LoadEnded does nothing.
func (NopObserver) LoadEnded(context.Context, LoadEnd) {}

// RemoteCalled does nothing.
func (NopObserver) RemoteCalled(context.Context, RemoteCall) {}

// Invalidating returns nothing to carry.
func (NopObserver) Invalidating(context.Context, InvalidationStart) string { return "" }

// InvalidationReceived does nothing.
func (NopObserver) InvalidationReceived(Invalidation) {}

// SessionChanged does nothing.
func (NopObserver) SessionChanged(Session) {}

// Diverged does nothing.
func (NopObserver) Diverged(Divergence) {}

func (NopObserver) embedsNopObserver() {}

// LoadStart is a call of a loader that begins.
type LoadStart struct {
	Cache string // its name
	Key   string // empty if the call is for several
}

// LoadEnd is a call of a loader that is over.
type LoadEnd struct {
	Cache string
	Key   string
	Began time.Time
	Took  time.Duration
	// Err is the loader's error, ErrNotFound for any that means so, a *PanicError, ErrLoaderExited, or ErrLoadTimeout or
	// ErrClosed for the error of a context that ended because of that. Nil if there is a value.
	Err error
	// Waiters is how many Gets have waited for the load beside the one that started it, and Contexts are theirs: of at most
	// 64, in the order in which they came.
	Waiters  int
	Contexts []context.Context //nolint:containedctx // of calls that wait while this is called
}

// RemoteCall is a call to Redis that is over.
type RemoteCall struct {
	Cache string
	// Op is what was asked for: "get", "acquire", "renew", "fill", "release", "set", "invalidate",
	// or "invalidate_all".
	Op      string
	Entries int // how many it was about
	// Took is how long until the answer was there, waiting for a shared round trip included.
	Took  time.Duration
	Ended time.Time
	// Err is why there is no answer, or Redis' error; that an entry is not there is none.
	Err error
}

// InvalidationStart is an invalidation on its way to Redis.
type InvalidationStart struct {
	Cache string
	Keys  []string // not to be changed
	Tags  []string // not to be changed
	All   bool     // everything of the cache
}

// Invalidation is one that was heard. It comes from whoever may publish in Redis: its texts are not to be trusted.
type Invalidation struct {
	Cache string
	Keys  []string // not to be changed
	Tags  []string // not to be changed
	All   bool     // everything of the cache
	// Sender is a random id of the sending process, or what a foreign sender calls itself. Own says that it is this process.
	Sender string
	Own    bool
	// Carried is what the sender's Observer has returned from Invalidating, empty if nothing.
	Carried string
	// Received is when it was heard.
	Received time.Time
	// Lag is the time from its sending to its being heard, and LagKnown whether the sender has told. Both ends are readings of
	// Redis' clock, which each instance knows from its last heartbeat to the time of that one's round trip and a millisecond:
	// no clocks of two machines are compared, and a Lag below that says only that there was next to none.
	Lag      time.Duration
	LagKnown bool
}

// Session is a change of the subscription.
type Session struct {
	Cache string
	// Began says that one has begun; if not, one has ended, and Reason is why.
	Began  bool
	Reason error
	At     time.Time
}

// Divergence is an entry of L1 that was served for longer than MaxStaleness although Redis had another value, which was loaded
// or set later. It has been dropped.
type Divergence struct {
	Cache string
	Key   string
	Found time.Time
	// LocalAge is how long ago the entry was read, RemoteAge how long ago the load or Set of what is in Redis began.
	LocalAge, RemoteAge time.Duration
}
