package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

func TestEachDivisionHasItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), 0
		err := inEach(t.Context(), make([]cluster.Division, 3), func(ctx context.Context, _ cluster.Division) error {
			calls++
			require.NoError(t, ctx.Err())
			<-ctx.Done()
			return fmt.Errorf("division %d: %w", calls, ctx.Err())
		})
		require.EqualError(t, err, "division 1: context deadline exceeded; division 2: context deadline exceeded; division 3: context deadline exceeded")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*callTimeout, time.Since(began))
	})
}

func TestReasonsAreGivenOnce(t *testing.T) {
	t.Parallel()
	require.NoError(t, reasons([]error{nil, nil}))
	require.EqualError(t, reasons([]error{nil, errors.New("a"), errors.New("b"), nil, errors.New("a")}), "a; b")
}

func TestWhatWasNotTriedIsSaid(t *testing.T) {
	t.Parallel()
	names := make([]string, 2500)
	for n := range names {
		names[n] = fmt.Sprint("k", n)
	}
	tags := make([]string, 0, 2*1001)
	for n := range 1001 {
		tags = append(tags, "-tag", fmt.Sprint("t", n))
	}
	some := func(from, to int) string { return strings.Join(names[from:to], " ") }
	for _, c := range []struct {
		times int64 // that keys are dropped first
		args  []string
		says  []string
		json  string
	}{
		{
			1, names,
			[]string{": not invalidated: " + some(1000, 2000) + ": ERR ", "; not tried: " + some(2000, 2500) + "\n"},
			`{"cache": "users", "all": false, "tags": 0, "keys": 1000, "failed_keys": 1500}`,
		},
		{
			1, append([]string{"-"}, names[:1001]...),
			[]string{": not invalidated: k1000: ERR ", "; standard input was not read\n"},
			`{"cache": "users", "all": false, "tags": 0, "keys": 1000, "failed_keys": 1}`,
		},
		{
			0, []string{"-tag", "red", "-tag", "a tag", "42", "a key", "-"},
			[]string{
				`: the tags red "a tag": not invalidated: ERR `,
				`; not tried: 42 "a key"; standard input was not read` + "\n",
			},
			`{"cache": "users", "all": false, "tags": 0, "keys": 0, "failed_keys": 2}`,
		},
		{
			0, append(tags, "42"),
			[]string{": the tags t0 t1 ", "; not tried: the tags t1000; not tried: 42\n"},
			`{"cache": "users", "all": false, "tags": 0, "keys": 0, "failed_keys": 1}`,
		},
		{
			0, []string{"-tag", "red"},
			[]string{": the tags red: not invalidated: ERR "},
			`{"cache": "users", "all": false, "tags": 0, "keys": 0}`,
		},
		{
			0, []string{"42", "43", "42"},
			[]string{": not invalidated: 42 43: ERR "},
			`{"cache": "users", "all": false, "tags": 0, "keys": 0, "failed_keys": 2}`,
		},
	} {
		m := refusingRedis(t, c.times)
		got := tandem(t, "44\n", append([]string{"invalidate", "-json", "-redis", m.Addr(), "users"}, c.args...)...)
		require.Equal(t, exitFailure, got.code)
		for _, want := range c.says {
			require.Contains(t, got.errOut, want)
		}
		require.JSONEq(t, c.json, got.out)
	}
}
