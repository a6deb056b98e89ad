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

var duration = flag.Duration("time", 300*time.Millisecond, "how long each measurement takes")

// Measured is what one run has shown.
type Measured struct {
	Requests int64
	Source   int64 // how often the source was asked meanwhile
	Took     time.Duration
}

// PerSecond returns how many requests were answered in a second.
func (m Measured) PerSecond() float64 { return float64(m.Requests) / m.Took.Seconds() }

// SourcePerRequest returns how often the source was asked for one request.
func (m Measured) SourcePerRequest() float64 { return float64(m.Source) / float64(max(m.Requests, 1)) }

// Measure has workers send requests, one after the other each, for the time of the flag -time, and asks the processes how
// often they asked their source for that. Request sends one and returns whether to go on; random is for its goroutine alone.
func Measure(t *testing.T, ps []*Process, workers int, request func(random *rand.Rand) bool) Measured {
	t.Helper()
	before, start := Source(t, ps...), time.Now()
	end := start.Add(*duration)
	var requests atomic.Int64
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 42))
			for time.Now().Before(end) && request(random) {
				requests.Add(1)
			}
		})
	}
	running.Wait()
	took := time.Since(start)
	return Measured{Requests: requests.Load(), Source: Source(t, ps...) - before, Took: took}
}

// Skewed returns a number below n, small ones much more often than large ones.
func Skewed(random *rand.Rand, n int) int { return int(float64(n) * math.Pow(random.Float64(), 4)) }

// Compare writes a table of what the cache changes, source being what is asked.
func Compare(t *testing.T, source string, with, without Measured) {
	t.Helper()
	var b strings.Builder
	row := func(what, format string, with, without float64) {
		fmt.Fprintf(&b, "| %s | "+format+" | "+format+" | %s |\n", what, with, without, ratio(with, without))
	}
	b.WriteString("\n| | with the cache | without | ratio |\n|---|---|---|---|\n")
	row("requests a second", "%.0f", with.PerSecond(), without.PerSecond())
	row(source+" for 1000 requests", "%.1f", 1000*with.SourcePerRequest(), 1000*without.SourcePerRequest())
	_, _ = io.WriteString(t.Output(), b.String())
}

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
