package running

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	duration = flag.Duration("time", 100*time.Millisecond, "how long one turn of a measurement takes")
	turns    = flag.Int("turns", 3, "how many turns each has")
)

// clients is how many send requests at a time.
const clients = 16

// Subject is what is measured: processes, and what a client does once. Request returns whether it was answered as it
// should be; random is for its goroutine alone.
type Subject struct {
	Processes []*Process
	Request   func(random *rand.Rand) bool
}

// Figures are what a subject has shown.
type Figures struct {
	Requests int64
	Source   int64 // how often the source was asked for them
	Took     time.Duration
}

// PerSecond returns how many requests were answered in a second.
func (f Figures) PerSecond() float64 { return float64(f.Requests) / f.Took.Seconds() }

// SourcePerRequest returns how often the source was asked for one request.
func (f Figures) SourcePerRequest() float64 { return float64(f.Source) / float64(max(f.Requests, 1)) }

// Compare measures both in turns, so that what slows the machine for a while slows both, and prints a table of what the cache
// changes; source is what is asked.
func Compare(t *testing.T, source string, with, without Subject) (withFigures, withoutFigures Figures) {
	t.Helper()
	for turn := range *turns {
		withFigures.turn(t, with, turn)
		withoutFigures.turn(t, without, turn)
	}
	var b strings.Builder
	row := func(what, format string, with, without float64) {
		fmt.Fprintf(&b, "| %s | "+format+" | "+format+" | %s |\n", what, with, without, ratio(with, without))
	}
	b.WriteString("\n| | with the cache | without | ratio |\n|---|---|---|---|\n")
	row("requests a second", "%.0f", withFigures.PerSecond(), withoutFigures.PerSecond())
	row(source+" for 1000 requests", "%.1f", 1000*withFigures.SourcePerRequest(), 1000*withoutFigures.SourcePerRequest())
	_, _ = io.WriteString(t.Output(), b.String())
	return withFigures, withoutFigures
}

// turn has clients send requests to s, one after the other each, and adds what that showed.
func (f *Figures) turn(t *testing.T, s Subject, turn int) {
	t.Helper()
	before, start := Source(t, s.Processes...), time.Now()
	end := start.Add(*duration)
	var requests atomic.Int64
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(turn), uint64(client)))
			for time.Now().Before(end) && s.Request(random) {
				requests.Add(1)
			}
		})
	}
	running.Wait()
	f.Took += time.Since(start)
	f.Requests += requests.Load()
	f.Source += Source(t, s.Processes...) - before
}

// Skewed returns a number below n, small ones much more often than large ones.
func Skewed(random *rand.Rand, n int) int { return int(float64(n) * math.Pow(random.Float64(), 4)) }

func ratio(with, without float64) string {
	switch r := with / without; {
	case with <= 0 || without <= 0:
		return "-"
	case r >= 10:
		return fmt.Sprintf("%.0f", r)
	case r >= 0.1:
		return fmt.Sprintf("%.2f", r)
	default:
		return fmt.Sprintf("1/%.0f", 1/r)
	}
}
