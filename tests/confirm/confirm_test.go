package confirm_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// judged is a test that may fail.
type judged struct {
	testing.TB
	failed bool
}

func (j *judged) Helper()               {}
func (j *judged) Errorf(string, ...any) { j.failed = true }
func (j *judged) FailNow()              { runtime.Goexit() }
func (j *judged) Name() string          { return "judged" }

// within reports whether the test has failed, and how often it has tried.
func within(errs ...error) (failed bool, tries int) {
	j := &judged{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		confirm.Within(j, time.Minute, func() error {
			tries++
			return errs[min(tries, len(errs))-1]
		})
	}()
	<-done
	return j.failed, tries
}

func TestWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pending := fmt.Errorf("%w: busy", tiered.ErrPending)
		failed, tries := within(pending, pending, nil)
		require.False(t, failed)
		require.Equal(t, 3, tries)
		failed, tries = within(pending, errors.New("another"), nil)
		require.True(t, failed, "it is no matter of time")
		require.Equal(t, 2, tries)
		failed, tries = within(pending)
		require.True(t, failed, "not for ever")
		require.Greater(t, tries, 1000)

		took := confirm.Within(t, time.Minute, func() error { time.Sleep(time.Second); return nil })
		require.Equal(t, time.Second, took)
	})
}
