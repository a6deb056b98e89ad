package quiet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOneLineACauseAndInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)), time.Minute)
		for range 10 {
			l.Log(slog.LevelWarn, "a", "first")
			l.Log(slog.LevelWarn, "b", "second")
		}
		require.Equal(t, 2, strings.Count(out.String(), "\n"))
		time.Sleep(time.Minute)
		l.Log(slog.LevelWarn, "a", "first")
		require.Contains(t, out.String(), "left_out=9")
	})
}

func TestCausesAreBounded(t *testing.T) {
	t.Parallel()
	l := New(nil, time.Hour)
	for i := range 10 * maxCauses {
		l.Log(slog.LevelInfo, fmt.Sprint(i), "x")
	}
	require.LessOrEqual(t, len(l.last), maxCauses)
}

type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("not today") }

func TestAPanickingHandlerIsContained(t *testing.T) {
	t.Parallel()
	l := New(slog.New(panicking{}), time.Hour)
	require.NotPanics(t, func() { l.Log(slog.LevelInfo, "x", "x") })
}
