package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

func TestLines(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("k", remote.MaxKeyBytes)
	for name, c := range map[string]struct {
		text string
		keys []string // or what the error says
	}{
		"nothing":                    {"", nil},
		"no end":                     {"1\n2", []string{"1", "2"}},
		"of another system":          {"1\r\n2\r", []string{"1", "2"}},
		"empty ones":                 {"\n\r\n1\n\n", []string{"", "", "1", ""}},
		"\\r within":                 {"1\r2\n\r\r\n", []string{"1\r2", "\r"}},
		"the longest":                {longest + "\n" + longest + "\r\n" + longest, []string{longest, longest, longest}},
		"longer by one":              {longest + "k\n2", []string{"it has 8193 bytes, at most 8192", "2"}},
		"longer by one, and \\r":     {longest + "k\r\n2", []string{"it has 8193 bytes, at most 8192", "2"}},
		"longer than a line may be":  {strings.Repeat("k", 100_000) + "\r\n2\n", []string{"it has 100000 bytes", "2"}},
		"the same as the last":       {"1\n" + strings.Repeat("k", 100_000), []string{"1", "it has 100000 bytes"}},
		"as long as what is read at": {strings.Repeat("k", 4095) + "\n2\n", []string{strings.Repeat("k", 4095), "2"}},
	} {
		from := lineReader{r: bufio.NewReader(strings.NewReader(c.text))}
		for n, want := range c.keys {
			got, err := from.next()
			require.NoError(t, err, name)
			require.Equal(t, n+1, got.number, name)
			if got.err != nil {
				require.ErrorIs(t, got.err, remote.ErrKey, name)
				require.ErrorContains(t, got.err, want, name)
				continue
			}
			require.Equal(t, want, got.key, name)
		}
		_, err := from.next()
		require.Equal(t, io.EOF, err, name)
	}
}

func TestALineOfAnyLengthIsReadInLittleMemory(t *testing.T) {
	t.Parallel()
	const length = 16 << 20
	from := lineReader{r: bufio.NewReader(io.LimitReader(zeros{}, length))}
	got, err := from.next()
	require.NoError(t, err)
	require.ErrorContains(t, got.err, fmt.Sprintf("it has %d bytes", length))
	require.LessOrEqual(t, cap(from.text), 2*remote.MaxKeyBytes)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestWhatAFailureCutsOffIsNoLine(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	from := lineReader{r: bufio.NewReader(io.MultiReader(strings.NewReader("1\n2"), iotest.ErrReader(broken)))}
	got, err := from.next()
	require.NoError(t, err)
	require.Equal(t, line{number: 1, key: "1"}, got)
	for range 2 {
		_, err = from.next()
		require.ErrorIs(t, err, broken)
	}
}

// At a terminal, who has ended the input would have to do so again.
func TestNothingIsReadAfterTheEnd(t *testing.T) {
	t.Parallel()
	from := lineReader{r: bufio.NewReader(iotest.DataErrReader(strings.NewReader("1")))}
	got, err := from.next()
	require.NoError(t, err)
	require.Equal(t, "1", got.key)
	from.r.Reset(strings.NewReader("2"))
	_, err = from.next()
	require.ErrorIs(t, err, io.EOF)
}

func TestInvalidateWhileStandardInputFails(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for text, want := range map[string]struct{ out, errOut string }{
		"1\n\n2\n3": {"invalidated 2 keys of cache users\n", "reading standard input: broken; what comes after line 3 was not tried"},
		"1":         {"invalidated 0 keys of cache users\n", "reading standard input: broken; nothing of standard input was tried"},
	} {
		in := io.MultiReader(strings.NewReader(text), iotest.ErrReader(errors.New("broken")))
		var out, errOut bytes.Buffer
		code := run(t.Context(), []string{"invalidate", "-redis", m.Addr(), "users", "-"}, in, &out, &errOut)
		require.Equal(t, exitFailure, code)
		require.Contains(t, errOut.String(), want.errOut)
		require.Equal(t, want.out, out.String())
	}
}

func TestInvalidateStopsAtALineThatDidNotGetThrough(t *testing.T) {
	t.Parallel()
	m := refusingRedis(t, 1)
	got := tandem(t, strings.Repeat("1\n", 2500), "invalidate", "-json", "-redis", m.Addr(), "users", "-")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, ": not invalidated: 1: ERR ")
	require.Contains(t, got.errOut, "; what comes after line 2000 was not tried\n")
	require.JSONEq(t, `{"cache": "users", "all": false, "tags": 0, "keys": 1000, "failed_keys": 1}`, got.out)
}

func TestInvalidateInterruptedWhileItWaitsForStandardInput(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for _, c := range []struct {
		full bool // as many lines as are dropped at once come first
		says string
		keys int
	}{
		{false, "interrupted: context canceled; nothing of standard input was tried", 0},
		{true, "interrupted: context canceled; what comes after line 1001 was not tried", 1000},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		in, lines := io.Pipe()
		var out, errOut bytes.Buffer
		code := make(chan int, 1)
		go func() {
			code <- run(ctx, []string{"invalidate", "-json", "-redis", m.Addr(), "users", "-"}, in, &out, &errOut)
		}()
		write := func(text string) {
			_, err := io.WriteString(lines, text)
			require.NoError(t, err)
		}
		if c.full {
			write("\n" + strings.Repeat("1\n", 1000))
		}
		write("2\n")
		write("3\n") // is read when all before it is done
		cancel()
		select {
		case got := <-code:
			require.Equal(t, exitFailure, got)
		case <-time.After(patience):
			require.Fail(t, "it still waits")
		}
		require.NoError(t, in.Close())
		require.Contains(t, errOut.String(), c.says)
		var report struct {
			Keys   int `json:"keys"`
			Failed int `json:"failed_keys"`
		}
		require.NoError(t, json.Unmarshal(out.Bytes(), &report))
		require.Equal(t, c.keys, report.Keys)
		require.Contains(t, []int{1, 2}, report.Failed, "the last line may have been taken or not")
	}
}
