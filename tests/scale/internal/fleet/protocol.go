//go:build linux

package fleet

import "time"

// Config says what a process is.
type Config struct {
	Redis        string   // address
	Cluster      []string // of the nodes of a cluster, which is used instead
	Partitions   int      // in a cluster
	Cache        string   // name
	Instances    int      // each with connections, heartbeats and an L1 of its own
	LocalBytes   int64
	MaxStaleness time.Duration
}

type op uint8

const (
	look op = iota
	storm
	use
)

type command struct {
	Op    op
	Storm Storm
}

// Storm is a series of Invalidates by a process's first instance.
type Storm struct {
	For        time.Duration
	Goroutines int
	Keys       int // of one call
	Rate       int // keys a second of all goroutines; 0 is as fast as it goes
	Distinct   int // how many different keys there are
}

// Sent is what a Storm has sent.
type Sent struct {
	Calls, Keys uint64
	Errors      uint64 // calls that Redis did not confirm
	Took        time.Duration
	Ended       time.Time // by the machine's clock, which all processes read
}

// State is how a process's instances are.
type State struct {
	Goroutines int    // since before the first instance
	Heap       int64  // live, since before the first instance
	RSS        int64  // of the process
	Trusted    int    // instances whose L1 is
	Received   uint64 // keys heard by all instances
	Sessions   uint64 // of all instances
}

type report struct {
	Failed string
	State  State
	Sent   Sent
	CPU    time.Duration
}
