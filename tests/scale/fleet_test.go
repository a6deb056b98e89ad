//go:build linux

package scale

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/scale/internal/fleet"
)

// processesOf are processes with instances of one cache.
type processesOf []*fleet.Process

// startFleet spreads n instances over processes, and returns when all are ready.
func startFleet(t *testing.T, cfg fleet.Config, n, processes int) processesOf {
	t.Helper()
	var f processesOf
	for i := range min(n, processes) {
		cfg.Instances = (n - i + processes - 1) / processes
		p, err := fleet.Start(cfg)
		require.NoError(t, err)
		f = append(f, p)
	}
	for _, p := range f {
		require.NoError(t, p.Ready())
	}
	return f
}

// look returns the sum of all.
func (f processesOf) look(t *testing.T) fleet.State {
	t.Helper()
	var sum fleet.State
	for _, p := range f {
		s, err := p.Look()
		require.NoError(t, err)
		sum.Goroutines += s.Goroutines
		sum.Heap += s.Heap
		sum.RSS += s.RSS
		sum.Trusted += s.Trusted
		sum.Received += s.Received
		sum.Sessions += s.Sessions
	}
	return sum
}

// cpu returns the CPU time that all have used.
func (f processesOf) cpu(t *testing.T) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, p := range f {
		used, err := p.CPU()
		require.NoError(t, err)
		sum += used
	}
	return sum
}

func (f processesOf) close(t *testing.T) {
	t.Helper()
	for _, p := range f {
		require.NoError(t, p.Close())
	}
}
