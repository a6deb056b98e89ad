package quiet

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// lines keeps what is written. before is called with each line first.
type lines struct {
	slog.Handler
	before func(msg string)
	said   []string
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	if l.before != nil {
		l.before(r.Message)
	}
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	l.said = append(l.said, line)
	return nil
}

func TestOneLineACauseAndInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lines
		l := New(slog.New(&out), time.Minute)
		for range 10 {
			l.Log(slog.LevelWarn, "a", "first", "n", 1)
			l.Log(slog.LevelWarn, "b", "second")
			l.Log(slog.LevelDebug, "c", "nobody wants to know")
		}
		synctest.Wait()
		require.Equal(t, []string{"first n=1", "second"}, out.said)
		time.Sleep(time.Minute)
		l.Log(slog.LevelWarn, "a", "first")
		synctest.Wait()
		require.Equal(t, "first left_out=9", out.said[2])
	})
}

func TestCausesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(nil, time.Hour)
		for i := range 10 * maxCauses {
			l.Log(slog.LevelInfo, fmt.Sprint(i), "x")
			synctest.Wait()
		}
		require.LessOrEqual(t, len(l.last), maxCauses)
	})
}

func TestALineSaysWhenAndWhereItWasLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at time.Time
		var source *slog.Source
		l := New(slog.New(handlerFunc(func(r slog.Record) { at, source = r.Time, r.Source() })), time.Hour)
		began := time.Now()
		l.Log(slog.LevelInfo, "x", "x")
		synctest.Wait()
		require.Equal(t, began, at)
		require.Contains(t, source.Function, "TestALineSaysWhenAndWhereItWasLogged")
	})
}

type handlerFunc func(r slog.Record)

func (f handlerFunc) Enabled(context.Context, slog.Level) bool      { return true }
func (f handlerFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }
func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f handlerFunc) WithGroup(string) slog.Handler                 { return f }

func TestALoggerThatMisbehavesLosesItsOwnLineOnly(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(){
		"panics":              func() { panic("not today") },
		"exits its goroutine": runtime.Goexit,
	} {
		synctest.Test(t, func(t *testing.T) {
			out := lines{before: func(msg string) {
				if msg == "bad" {
					misbehave()
				}
			}}
			l := New(slog.New(&out), time.Hour)
			for _, msg := range []string{"one", "bad", "two"} {
				l.Log(slog.LevelInfo, msg, msg)
			}
			synctest.Wait()
			require.Equal(t, []string{"one", "two"}, out.said, name)
			require.False(t, l.writing)
		})
	}
}

func TestALoggerThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		out := lines{before: func(string) { <-gate }}
		l := New(slog.New(&out), time.Minute)
		l.Log(slog.LevelInfo, "first", "first")
		synctest.Wait()
		for i := range 3 * maxWaiting {
			l.Log(slog.LevelInfo, fmt.Sprint(i), "x")
		}
		require.Len(t, l.waiting, maxWaiting)
		close(gate)
		synctest.Wait()
		require.Len(t, out.said, 1+maxWaiting)
		l.Log(slog.LevelInfo, fmt.Sprint(maxWaiting), "heard again")
		synctest.Wait()
		require.Equal(t, "heard again left_out=1", out.said[len(out.said)-1])
	})
}
