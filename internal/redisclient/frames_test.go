package redisclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func newFrames(most int64) *frames {
	var limit atomic.Int64
	limit.Store(most)
	return &frames{maxBulk: &limit}
}

// feed checks a stream in pieces of n bytes.
func feed(f *frames, stream string, n int) error {
	for len(stream) > 0 {
		piece := stream[:min(n, len(stream))]
		stream = stream[len(piece):]
		if err := f.check([]byte(piece)); err != nil {
			return err
		}
	}
	return nil
}

func bulk(n int) string { return "$" + strconv.Itoa(n) + "\r\n" + strings.Repeat("$", n) + "\r\n" }

func TestFramesLetInWhatRedisSays(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{
		"+OK\r\n-ERR no\r\n:12\r\n_\r\n#t\r\n,1.5\r\n(123\r\n",
		"$-1\r\n$0\r\n\r\n*-1\r\n*0\r\n",
		bulk(100) + bulk(99) + bulk(0) + "=7\r\ntxt:abc\r\n!5\r\nERR x\r\n",
		"*3\r\n" + bulk(3) + "*2\r\n:1\r\n*0\r\n" + bulk(1) + "+OK\r\n",
		"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n>2\r\n+x\r\n+y\r\n~1\r\n:1\r\n",
		"|1\r\n+a\r\n:1\r\n:2\r\n" + strings.Repeat("*1\r\n", maxDepth) + ":1\r\n",
		strings.Repeat("*2\r\n:1\r\n:2\r\n", 100),
	} {
		for n := 1; n <= len(stream); n++ {
			f := newFrames(100)
			require.NoError(t, feed(f, stream, n), "%q in pieces of %d", stream, n)
			require.Empty(t, f.open, "%q", stream)
			require.Zero(t, f.skip)
			require.Zero(t, f.line)
		}
	}
}

func TestFramesRefuseWhatIsTooLong(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]string{
		"$101\r\n":                                      "101 bytes, at most 100",
		"$536870912\r\n":                                "536870912 bytes",
		"*2\r\n:1\r\n!101\r\n":                          "101 bytes",
		"=101\r\n":                                      "101 bytes",
		"*1073741824\r\n":                               "1073741824 elements",
		"%65537\r\n":                                    "65537 elements",
		">65537\r\n":                                    "65537 elements",
		strings.Repeat("*1\r\n", maxDepth+1):            "deep",
		strings.Repeat("*2\r\n:1\r\n", 17):              "deep",
		"+" + strings.Repeat("x", maxLine):              "a line of more than",
		bulk(100) + strings.Repeat("1", 70000):          "a line of more than",
		"$" + strings.Repeat("0", 31) + "536870912\r\n": "a length of more than",
		"*" + strings.Repeat("0", 40) + "1\r\n":         "a length of more than",
	} {
		for _, n := range []int{1, 2, 7, 4096, 1 << 20} {
			err := feed(newFrames(100), stream, n)
			require.ErrorIs(t, err, ErrTooLong, "%.50q in pieces of %d", stream, n)
			require.ErrorContains(t, err, want)
		}
	}
}

func TestFramesRefuseWhatIsNoLength(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"$\r\n", "$x\r\n", "*\r\n", "$-2\r\n", "$99999999999999999999\r\n", "$?\r\n", "\r\n", "%1x\r\n"} {
		require.Error(t, feed(newFrames(100), stream, 1), "%q", stream)
	}
}

// Whatever go-redis would read of a stream, it reads no string and makes no array that is longer than allowed, and what is
// refused does not depend on how the bytes arrive.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nabc\r\n:1\r\n"), uint8(3))
	f.Add([]byte("$500\r\n"), uint8(1))
	f.Add([]byte("$0000000000000000000000000000000500\r\n"), uint8(1))
	f.Add([]byte("|1\r\n+a\r\n+b\r\n%1\r\n+a\r\n*-1\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, n uint8) {
		whole := feed(newFrames(100), string(stream), len(stream)+1)
		pieces := feed(newFrames(100), string(stream), int(n)+1)
		require.Equal(t, whole == nil, pieces == nil)
		if whole != nil {
			return
		}
		checkStream(t, bufio.NewReader(bytes.NewReader(stream)))
	})
}

// checkStream reads like a client, by recursion, and fails on a length that is not allowed.
func checkStream(t *testing.T, r *bufio.Reader) {
	t.Helper()
	for checkElement(t, r, 0) {
		continue
	}
}

func checkElement(t *testing.T, r *bufio.Reader, depth int) bool {
	t.Helper()
	require.LessOrEqual(t, depth, maxDepth+1)
	line, err := r.ReadString('\n')
	if err != nil {
		return false
	}
	n, _ := strconv.ParseInt(strings.TrimRight(line[1:], "\r\n"), 10, 64)
	switch line[0] {
	case '$', '=', '!':
		require.LessOrEqual(t, n, int64(100))
		if n >= 0 {
			_, err = io.CopyN(io.Discard, r, n+2)
		}
		return err == nil
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return true
	}
	if line[0] == '|' {
		n++
	}
	require.LessOrEqual(t, n, int64(2*maxElements+1))
	for range n {
		if !checkElement(t, r, depth+1) {
			return false
		}
	}
	return true
}

func TestALengthBombIsRefusedBeforeItsMemoryIsTaken(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"$536870912\r\n", "*1073741824\r\n", strings.Repeat("*1\r\n", 1000)} {
		here, there := net.Pipe()
		go func() {
			r := bufio.NewReader(there)
			for { // HELLO and what follows it are commands that this server does not know
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(line, "*") {
					continue
				}
				if strings.EqualFold(strings.TrimSpace(line), "get") {
					_, _ = io.Copy(there, iotest.OneByteReader(strings.NewReader(reply)))
				}
				if strings.EqualFold(strings.TrimSpace(line), "hello") || strings.EqualFold(strings.TrimSpace(line), "client") {
					_, _ = there.Write([]byte("-ERR unknown command\r\n"))
				}
			}
		}()
		rdb := redis.NewClient(&redis.Options{Protocol: 2, DisableIdentity: true})
		d, err := Derive(rdb, nil)
		require.NoError(t, err)
		c := &conn{Conn: here, of: &d.conns, frames: frames{maxBulk: &d.conns.maxBulk}}
		go func() { _, _ = c.Write([]byte("*2\r\n$3\r\nget\r\n$1\r\nk\r\n")) }()
		for range 2 {
			_, err = io.ReadAll(c)
			require.ErrorIs(t, err, ErrTooLong, "%.20q", reply)
		}
		_, err = c.SyscallConn()
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, errors.Join(d.Close(), rdb.Close(), there.Close()))
	}
}
