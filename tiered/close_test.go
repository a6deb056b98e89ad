package tiered

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// C6: an Invalidate that is on its way when Close drains. One of the two has to account for it: here the Invalidate says that
// it is pending (it will be repeated), nobody repeats it, and Close returns nil.
func TestC6CloseWaitsForAWriteOnItsWay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s)
		require.Equal(t, 0, get(t, c, "k"))
		reached, letGo := make(chan struct{}), make(chan struct{})
		var once sync.Once
		r.intercept(func(cmd string, args []string) error {
			if isInvalidate(cmd, args) {
				once.Do(func() { close(reached) })
				<-letGo
				return context.Canceled // never executed
			}
			return nil
		})
		s.write("k")
		invalidated := make(chan error, 1)
		go func() { invalidated <- c.Invalidate(context.Background(), "k") }()
		wait(t, "the script", reached)
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		err := wait(t, "Close", closed)
		require.ErrorIs(t, wait(t, "Invalidate", invalidated), ErrPending)
		close(letGo)
		r.up()
		keys, _ := pendingOf(c, "k").size()
		require.Equal(t, 1, keys)
		require.ErrorIs(t, err, ErrPending, "Close says how many are left")
	})
}

// stuck is a logger whose writer hangs.
type stuck struct {
	slog.Handler
	until chan struct{}
}

func (s stuck) Handle(context.Context, slog.Record) error { <-s.until; return nil }
func (s stuck) Enabled(context.Context, slog.Level) bool  { return true }

// Every step of this logs a line. The logger is neither on the way of a Get, nor of the repetition, nor of Close's last try.
func TestALoggerThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		h := stuck{slog.DiscardHandler, make(chan struct{})}
		defer close(h.until)
		c := instance(t, r, s, func(o *Options[int]) { o.Logger = slog.New(h) })
		r.down()
		require.Equal(t, result{val: s.write("k")}, wait(t, "Get", getAsync(soon(t), c, "k")))
		require.ErrorIs(t, c.Invalidate(soon(t), "k"), ErrPending)
		r.up()
		eventually(t, "it is repeated", func() bool { return c.Health().PendingKeys == 0 })
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		require.NoError(t, wait(t, "Close", closed))
	})
}
