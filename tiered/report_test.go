package tiered

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// An operator can tell from the log when Redis went, when it came back, and that nothing is left undone.
func TestTheLogOfAnOutage(t *testing.T) {
	t.Parallel()
	r, s, book := newRedis(t), newSource(), &logbook{}
	c := instance(t, r, s, func(o *Options[int]) { o.Logger = slog.New(slog.NewTextHandler(book, nil)) })
	says := func(line string) {
		t.Helper()
		eventually(t, line, func() bool { return book.count(line) == 1 })
	}
	says(`level=INFO msg="tandem: subscribed, L1 starts empty" cache=things`)
	require.Zero(t, book.count("heartbeat"))
	r.down()
	says(`level=WARN msg="tandem: Redis takes no heartbeat, going on without it" cache=things`)
	says(`level=WARN msg="tandem: subscription lost, connecting again"`)
	require.ErrorIs(t, c.Invalidate(soon(t), "k"), ErrPending)
	says(`level=WARN msg="tandem: Redis failed, going on without it" cache=things what=invalidate`)
	eventually(t, "it is repeated in vain", func() bool { return c.Stats().Commands > 3 })
	r.up()
	says(`level=INFO msg="tandem: Redis takes heartbeats again" cache=things`)
	says(`level=INFO msg="tandem: Redis has taken all pending invalidations" cache=things`)
}
