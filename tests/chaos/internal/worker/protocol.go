//go:build linux

package worker

import (
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
)

// Config says what a worker is.
type Config struct {
	Number int // of the instance: never used twice in a run
	Slot   int // its place among Slots, which a successor takes over
	Slots  int
	Design string
	Redis  design.Address
	Source string // path
	Seed   uint64

	MaxStaleness time.Duration
	Readers      int
	Writers      int
	ReadRate     int // reads per second of all readers
	WriteRate    int
	// LoadDelay is how long most loads take at most; a few take ten times as long.
	LoadDelay time.Duration
	// Grace is how long a successor waits before it writes: a Set that its predecessor was killed in may still be on its
	// way to Redis, and a register orders it after those that come later.
	Grace time.Duration
}

// Op is what a command asks for.
type Op uint8

// The commands.
const (
	// Write sets the rate of writes; zero stops them, and is done when none is under way.
	Write Op = iota
	// Sweep reads every key once.
	Sweep
	// Quit ends the worker; it is done when the pipe ends.
	Quit
)

// Command is what the harness sends.
type Command struct {
	ID   int
	Op   Op
	Rate int
}

// Report is what a worker sends every few milliseconds.
type Report struct {
	Batch  history.Batch
	Trust  []Trust // its changes
	Felt   Felt
	Done   []int  // commands
	Failed string // why the worker ends, if it is not because of Quit
}

// Trust says that the instance began, or ceased, to trust L1 and Redis.
type Trust struct {
	At      int64
	Trusted bool
}

// Felt counts what an instance noticed of a fault.
type Felt struct{ Sessions, Errors uint64 }
