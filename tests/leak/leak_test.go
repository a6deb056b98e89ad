package leak

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { Main(m) }

type program func() int

func (f program) Run() int { return f() }

func TestWhatEndsByItselfIsWaitedFor(t *testing.T) {
	require.Zero(t, patient{program(func() int { go time.Sleep(time.Second); return 0 })}.Run())
	require.NoError(t, goleak.Find())

	end := make(chan struct{})
	defer close(end)
	require.Zero(t, patient{program(func() int { go func() { <-end }(); return 0 })}.Run())
	require.ErrorContains(t, goleak.Find(), "TestWhatEndsByItselfIsWaitedFor")
}

func TestNobodyWaitsForAFailure(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	begin := time.Now()
	require.Equal(t, 1, patient{program(func() int { go func() { <-end }(); return 1 })}.Run())
	require.Less(t, time.Since(begin), patience)
}
