package design

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// cacheName is the name of the one cache in Redis.
const cacheName = "things"

// Value is what is cached. It says what it is a value of, so that one that got mixed up shows.
type Value struct {
	Key     int   `json:"key"`
	Version int64 `json:"version"`
}

// Key is the key's name in a cache.
func Key(number int) string { return "key-" + strconv.Itoa(number) }

// taggedEvery says which keys are invalidated by tag: one in so many, those that leave taggedRest.
const (
	taggedEvery = 8
	taggedRest  = 3
)

// tag returns the tag that key alone has, and false if it has none.
func tag(key int) (string, bool) {
	return "tag-" + strconv.Itoa(key), key%taggedEvery == taggedRest
}

// number is the inverse of Key.
func number(key string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(key, "key-"))
	if err != nil {
		panic(fmt.Sprintf("design: %q is not a key of the harness", key))
	}
	return n
}

// Options are what every design is started with.
type Options struct {
	Redis        redis.UniversalClient
	Load         func(ctx context.Context, key int) (Value, error)
	LoadMany     func(ctx context.Context, keys []int) ([]Value, error)
	MaxStaleness time.Duration // a promise that the control does not make
	TTL          time.Duration // of entries in both tiers: longer than the run, so that nothing old goes by itself
	Logger       *slog.Logger
}

// Instance is a running cache. Its methods may be called concurrently.
type Instance interface {
	Get(ctx context.Context, key int) (Value, error)
	// GetMany returns the values of keys, in their order.
	GetMany(ctx context.Context, keys []int) ([]Value, error)
	// Set and Invalidate return ErrPending, wrapped, if they were left to the background.
	Set(ctx context.Context, v Value) error
	Invalidate(ctx context.Context, key int) error
	Health() Health
	Close() error
}

// ErrPending says that Redis has not confirmed a write, and that it will be repeated.
var ErrPending = errors.New("pending")

// Health is how an instance stands. Sessions and Errors only grow, and show whether a fault was felt.
type Health struct {
	Trusted  bool // L1 is trusted and Redis usable
	Pending  int  // writes left to the background
	Sessions uint64
	Errors   uint64
}

// The designs' names.
const (
	Tandem  = "tandem"
	Control = "control"
	Stale   = "stale" // tandem with a defect: it returns the value before the last one now and then
)

// Start starts an instance of the design called name.
func Start(name string, opts Options) (Instance, error) {
	switch name {
	case Tandem:
		return startTandem(opts)
	case Control:
		return startControl(opts)
	case Stale:
		in, err := startTandem(opts)
		return &stale{Instance: in}, err
	default:
		return nil, fmt.Errorf("design: there is none called %q", name)
	}
}
