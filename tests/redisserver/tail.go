package redisserver

import (
	"bytes"
	"sync"
)

const tailBytes = 16 << 10

// tail keeps the end of what was written to it. It may be used by several goroutines at once.
type tail struct {
	mu  sync.Mutex // protects buf
	buf []byte     // at most twice tailBytes, so that most writes only append
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append(t.buf[:0], t.endLocked()...)
	}
	return len(p), nil
}

// String returns the end, from the beginning of a line on.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.endLocked())
}

func (t *tail) contains(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.buf, []byte(text))
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = nil
}

// endLocked returns the last lines, at most tailBytes. t.mu must be held.
func (t *tail) endLocked() []byte {
	if len(t.buf) <= tailBytes {
		return t.buf
	}
	end := t.buf[len(t.buf)-tailBytes:]
	if newline := bytes.IndexByte(end, '\n'); newline >= 0 {
		end = end[newline+1:]
	}
	return end
}
