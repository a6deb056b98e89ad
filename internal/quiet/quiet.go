// Package quiet writes to a logger that belongs to somebody else: what happens often is written seldom, and one that panics,
// blocks or ends its goroutine holds up nobody but itself.
package quiet

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

const (
	// maxCauses bounds the memory of a Logger whose causes are made up by others.
	maxCauses = 256
	// maxWaiting bounds the lines that wait for a logger that is slow.
	maxWaiting = 64
)

// Logger may be used concurrently. Lines are written in their order, by a goroutine that there is only while there are some.
type Logger struct {
	to    *slog.Logger
	every time.Duration

	mu      sync.Mutex // protects what follows; never held while a line is written
	last    map[string]state
	waiting []slog.Record
	writing bool // there is a goroutine that takes from waiting
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

// Log has a line written unless one of the same cause was a moment ago, or too many wait; the next that is written says how
// many were left out. It does not wait for the logger.
func (l *Logger) Log(level slog.Level, cause, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	skipped, ok := l.passLocked(now, cause)
	if !ok {
		return
	}
	var caller [1]uintptr
	runtime.Callers(2, caller[:]) // whoever called Log
	r := slog.NewRecord(now, level, msg, caller[0])
	r.Add(args...)
	if skipped > 0 {
		r.Add("left_out", skipped)
	}
	l.waiting = append(l.waiting, r)
	if !l.writing {
		l.writing = true
		go l.write()
	}
}

func (l *Logger) passLocked(now time.Time, cause string) (skipped int, ok bool) {
	s, known := l.last[cause]
	if known && now.Sub(s.at) < l.every || len(l.waiting) >= maxWaiting {
		s.skipped++
		l.rememberLocked(cause, s)
		return 0, false
	}
	l.rememberLocked(cause, state{at: now})
	return s.skipped, true
}

func (l *Logger) rememberLocked(cause string, s state) {
	if _, known := l.last[cause]; !known && len(l.last) >= maxCauses {
		clear(l.last)
	}
	l.last[cause] = s
}

// write writes what waits, until nothing does.
func (l *Logger) write() {
	over := false
	defer func() {
		if !over { // the logger has called runtime.Goexit
			go l.write()
		}
	}()
	for r, ok := l.next(); ok; r, ok = l.next() {
		l.one(r)
	}
	over = true
}

func (l *Logger) next() (r slog.Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting, l.writing = nil, false
		return r, false
	}
	r = l.waiting[0]
	l.waiting = l.waiting[1:]
	return r, true
}

func (l *Logger) one(r slog.Record) {
	defer func() { _ = recover() }()
	ctx := context.Background()
	if h := l.to.Handler(); h.Enabled(ctx, r.Level) {
		_ = h.Handle(ctx, r) // there is nobody to tell
	}
}
