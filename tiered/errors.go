package tiered

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// The errors below are for errors.Is. What is returned often wraps one of them together with its cause.
var (
	// ErrNotFound is returned by Get, GetWith and Refresh for a key that the source does not have. A LoadFunc returns it
	// to say so; the answer is then cached for Options.NotFoundTTL.
	ErrNotFound = errors.New("tiered: not found")

	// ErrClosed is returned by every method of a closed Cache or Bus, also to those who were waiting when it was closed.
	ErrClosed = errors.New("tiered: closed")

	// ErrInvalidKey is returned for a key that is empty or longer than 8 KiB.
	ErrInvalidKey = errors.New("tiered: invalid key")

	// ErrInvalidOption is returned by New, NewBus, GetWith and SetWith, with the field, its value and its bound. New
	// reports all invalid fields at once.
	ErrInvalidOption = errors.New("tiered: invalid option")

	// ErrUnsupportedClient is returned by New and NewBus for a Redis client with which the contract cannot be kept, such as
	// a redis.Ring or one with go-redis' own client-side cache. The text says what to use instead.
	ErrUnsupportedClient = redisclient.ErrUnsupported

	// ErrTooLarge is returned by Set and SetWith for a value whose encoded form is over Options.MaxEntryBytes. The key has
	// been invalidated. A Get whose loaded value is too large returns the value; it is counted in Stats.
	ErrTooLarge = errors.New("tiered: value too large")

	// ErrEncode is returned by Set and SetWith for a value that the codec cannot encode. The key has been invalidated.
	ErrEncode = errors.New("tiered: value cannot be encoded")

	// ErrInvalidTag is returned by InvalidateTags for a tag that is empty or longer than 255 bytes, and by Set and SetWith if
	// Options.Tags returns such a one, more than 32, or panics. The key has been invalidated then.
	ErrInvalidTag = errors.New("tiered: invalid tag")

	// ErrPending is returned by Set, SetWith, SetMany, Invalidate, InvalidateAndWait, InvalidateTags and InvalidateAll when Redis did not
	// confirm the change, or when an earlier Set of the key that it did not confirm may still arrive, which is for up to
	// RedisTimeout. The local copy is gone, and the invalidation is repeated in the background until Redis takes it; until
	// then this instance loads the key from the source. A caller that has committed to its source need not repeat the call.
	ErrPending = errors.New("tiered: not confirmed by Redis")

	// ErrLoadTimeout is returned by Get, GetWith and Refresh when the loader took longer than Options.LoadTimeout. It is
	// also a context.DeadlineExceeded.
	ErrLoadTimeout error = loadTimeoutError{}

	// ErrLoaderExited is returned when the loader, or a codec, ended its goroutine with runtime.Goexit, as t.FailNow does.
	ErrLoaderExited = errors.New("tiered: the loader called runtime.Goexit")
)

type loadTimeoutError struct{}

func (loadTimeoutError) Error() string { return "tiered: the load took longer than LoadTimeout" }

func (loadTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout says that it is a timeout, as net.Error does.
func (loadTimeoutError) Timeout() bool { return true }

// PanicError is returned by Get, GetWith and Refresh when the loader panicked. All callers that share the load get it.
type PanicError struct {
	// Value is what the loader panicked with.
	Value any
	// Stack is the loader's stack, as debug.Stack gives it.
	Stack []byte
}

// Error returns the panic's value and the line that panicked; the whole stack is in Stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("tiered: the loader panicked: %v%s", e.Value, panicSite(e.Stack))
}

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// panicSite finds the frame below the runtime's panic in a stack as debug.Stack prints it.
func panicSite(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") && i+3 < len(lines) {
			site, _, _ := strings.Cut(strings.TrimSpace(lines[i+3]), " ")
			return " at " + site
		}
	}
	return ""
}

// pendingError says what was left to the background, and why.
func pendingError(what string, cause error) error {
	return fmt.Errorf("%w, will be repeated in the background: %s: %w", ErrPending, what, cause)
}
