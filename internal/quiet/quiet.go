// Package quiet writes to a logger that belongs to somebody else: a panic in it is contained, and what happens often is
// written seldom.
package quiet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxCauses bounds the memory of a Logger whose causes are made up by others.
const maxCauses = 256

// Logger may be used concurrently.
type Logger struct {
	to    *slog.Logger
	every time.Duration

	mu   sync.Mutex // protects last
	last map[string]state
}

type state struct {
	at      time.Time
	skipped int
}

// New returns a Logger that writes to the logger to (nil: nowhere), each cause at most once within every.
func New(to *slog.Logger, every time.Duration) *Logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	return &Logger{to: to, every: every, last: make(map[string]state)}
}

// Log writes a line unless one of the same cause was written a moment ago; the next that is written says how many were
// left out.
func (l *Logger) Log(level slog.Level, cause, msg string, args ...any) {
	skipped, ok := l.pass(cause)
	if !ok {
		return
	}
	if skipped > 0 {
		args = append(args, "left_out", skipped)
	}
	defer func() { _ = recover() }() // the logger is not ours
	l.to.Log(context.Background(), level, msg, args...)
}

func (l *Logger) pass(cause string) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s, known := l.last[cause]
	if known && now.Sub(s.at) < l.every {
		s.skipped++
		l.last[cause] = s
		return 0, false
	}
	if !known && len(l.last) >= maxCauses {
		clear(l.last)
	}
	l.last[cause] = state{at: now}
	return s.skipped, true
}
