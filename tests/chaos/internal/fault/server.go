//go:build linux

package fault

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
)

// server are the faults of Redis itself.
func server() []Fault {
	return []Fault{
		{Name: "server-paused", Class: Server, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			return a.Server.Resume, a.Server.Pause()
		}},
		{Name: "server-restarted-empty", Class: Server, Span: time.Second, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			return a.Server.Restart, errors.Join(a.Server.Kill(), forgetSnapshot(a))
		}},
		{Name: "server-restarted-old", Class: Server, Span: time.Second, Start: restartOld},
		{Name: "server-sleeping", Class: Server, Start: func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
			// Each command waits for the one before it: the server answers a little, between long silences.
			return again(200*time.Millisecond, func(ctx context.Context, a *arena.Arena, rng *rand.Rand) error {
				return a.Admin.Do(ctx, "DEBUG", "SLEEP", 0.2+rng.Float64()*2).Err()
			})(ctx, a, rng)
		}},
		{Name: "clients-paused", Class: Server, Span: 100 * time.Millisecond, Start: func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
			// Under ALL not even CLIENT UNPAUSE is heard, so it ends by itself.
			span := time.Duration(500+rng.IntN(3000)) * time.Millisecond
			over := time.After(span)
			mode := []string{"WRITE", "ALL"}[rng.IntN(2)]
			a.Notef("clients-paused: %s for %v", mode, span)
			err := a.Admin.Do(ctx, "CLIENT", "PAUSE", span.Milliseconds(), mode).Err()
			return func() error { <-over; return nil }, err
		}},
		command("answers-readonly", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}),
		command("answers-oom", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}),
		command("answers-noperm", []any{"ACL", "SETUSER", "default", "-@write"}, []any{"ACL", "SETUSER", "default", "+@all"}),
		command("answers-noreplicas", []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}),
		{Name: "answers-busy", Class: Server, Start: answerBusy},
	}
}

func command(name string, breaks, mends []any) Fault {
	return Fault{Name: name, Class: Server, Start: func(ctx context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
		mend := func() error { return insist(func() error { return a.Admin.Do(ctx, mends...).Err() }) }
		return mend, a.Admin.Do(ctx, breaks...).Err()
	}}
}

func forgetSnapshot(a *arena.Arena) error {
	if err := os.Remove(a.Snapshot()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restartOld has the server save, goes on for long enough that much of it is invalidated, and kills the server: what comes
// back with the snapshot has been deleted since.
func restartOld(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	if err := a.Admin.Save(ctx).Err(); err != nil {
		return nil, err
	}
	a.Notef("server-restarted-old: saved")
	time.Sleep(time.Duration(500+rng.IntN(2500)) * time.Millisecond)
	a.Notef("server-restarted-old: kill")
	return a.Server.Restart, a.Server.Kill()
}

// answerBusy runs a script without an end: past the threshold everyone else is answered BUSY.
func answerBusy(ctx context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
	if err := a.Admin.ConfigSet(ctx, "busy-reply-threshold", "50").Err(); err != nil {
		return nil, err
	}
	wait := background(ctx, func(context.Context) error {
		long := redis.NewClient(&redis.Options{Addr: a.Server.Addr(), ReadTimeout: -1, MaxRetries: -1})
		defer long.Close()
		if err := long.Eval(context.WithoutCancel(ctx), "while true do end", nil).Err(); err == nil {
			return errors.New("an endless script has ended")
		}
		return nil
	})
	return func() error {
		for {
			err := a.Admin.ScriptKill(ctx).Err()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond) // it has not begun
		}
		return wait()
	}, nil
}
