package faults

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

const (
	pausedBound = waitBound // the child is in the tests of both
	pausedKey   = "paused"
	sourceKey   = "source:" + pausedKey // the database of both processes

	acknowledgeEnv = "TANDEM_FAULTS_ACKNOWLEDGE" // set: the child acknowledges
)

// monotonic is the one clock that two processes share.
func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	if _, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); failed != 0 {
		panic(failed)
	}
	return ts.Nano()
}

// streak is consecutive reads that brought the same version: when the first and the last of them started.
type streak struct {
	version, first, last, reads int64
}

// child reads one key without end, and prints each streak when it is over. The end of the standard input is its own.
func child() {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv(childEnv)})
	c, err := tiered.New(rdb, cacheName, tiered.Options[value]{
		Load: loadFrom(rdb), MaxStaleness: pausedBound, Acknowledge: os.Getenv(acknowledgeEnv) != "",
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var s streak
	for {
		began := monotonic()
		v, err := c.Get(context.Background(), pausedKey)
		if err != nil || !v.of(pausedKey) {
			fmt.Println("Get:", v, err)
			os.Exit(1)
		}
		if v.Version != s.version {
			fmt.Println(s.version, s.first, s.last, s.reads)
			s = streak{version: v.Version, first: began}
		}
		s.last = began
		s.reads++
	}
}

func loadFrom(rdb *redis.Client) tiered.LoadFunc[value] {
	return func(ctx context.Context, key string) (value, error) {
		n, err := rdb.Get(ctx, sourceKey).Int64()
		return newValue(key, n), err
	}
}

// C3: an instance that was stopped while others wrote must not serve what it held when it goes on, whether the message waits
// in its socket or was lost with the connection. The very first read counts.
func TestAPausedProcess(t *testing.T) {
	srv := startRedis(t)
	raw := client(t, srv.Addr())
	require.NoError(t, raw.Set(soon(t), sourceKey, 1, 0).Err())
	writer, err := tiered.New(client(t, srv.Addr()), cacheName, tiered.Options[value]{Load: loadFrom(raw), MaxStaleness: pausedBound})
	require.NoError(t, err)
	defer func() { require.NoError(t, writer.Close()) }()
	require.NoError(t, writer.Ready(soon(t)))
	process, streaks := startChild(t, srv.Addr())
	require.Zero(t, next(t, streaks).version, "before its first read")

	for round, pause := range []time.Duration{pausedBound + 100*time.Millisecond, 700 * time.Millisecond, time.Second, 3 * time.Second} {
		time.Sleep(100 * time.Millisecond) // some reads, from L1
		freeze(t, process)
		v := raw.Incr(soon(t), sourceKey).Val()
		confirm.Within(t, patience, func() error { return writer.Invalidate(soon(t), pausedKey) })
		acknowledged := monotonic()
		lost := round%2 == 1
		if lost {
			require.NoError(t, raw.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
		}
		time.Sleep(pause) // the fault itself
		resumed := monotonic()
		require.NoError(t, process.Signal(syscall.SIGCONT))
		old := next(t, streaks)
		require.Equal(t, v-1, old.version)
		require.Positive(t, old.reads)
		t.Logf("stopped for %v (message lost: %v): of %d reads of the old version the last started %v before the invalidation was acknowledged and %v before going on",
			pause, lost, old.reads, round2(acknowledged-old.last), round2(resumed-old.last))
		require.Less(t, old.last, acknowledged+int64(pausedBound))
		require.Less(t, old.last, resumed, "not the first read after the pause either")
	}
}

func round2(ns int64) time.Duration { return round(time.Duration(ns)) }

func startChild(t *testing.T, addr string, env ...string) (*os.Process, <-chan streak) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+addr), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	streaks := make(chan streak, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(streaks)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var s streak
			if n, _ := fmt.Sscan(lines.Text(), &s.version, &s.first, &s.last, &s.reads); n != 4 {
				t.Errorf("the child says: %s", lines.Text())
				continue
			}
			streaks <- s
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return cmd.Process, streaks
}

func next(t *testing.T, streaks <-chan streak) streak {
	t.Helper()
	select {
	case s, ok := <-streaks:
		require.True(t, ok, "the child has ended")
		return s
	case <-time.After(patience):
		require.FailNow(t, "waited too long for the child")
		panic("unreachable")
	}
}

// ended waits until the child is no more: it may go on for a while after it was killed.
func ended(t *testing.T, streaks <-chan streak) {
	t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case _, ok := <-streaks:
			if !ok {
				return
			}
		case <-timeout:
			require.FailNow(t, "waited too long for the child's end")
		}
	}
}

// freeze stops a process and returns when all its threads stand still.
func freeze(t *testing.T, p *os.Process) {
	t.Helper()
	require.NoError(t, p.Signal(syscall.SIGSTOP))
	tasks := "/proc/" + strconv.Itoa(p.Pid) + "/task/"
	eventually(t, "stopped", func() bool {
		threads, err := os.ReadDir(tasks)
		require.NoError(t, err)
		for _, thread := range threads {
			stat, err := os.ReadFile(tasks + thread.Name() + "/stat")
			if err != nil || !bytes.Contains(stat, []byte(") T ")) {
				return false
			}
		}
		return true
	})
}
