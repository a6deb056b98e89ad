//go:build linux

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/source"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// What an instance promises about one key, as a state machine for porcupine. A write is two operations: the commit, and the
// call of Set or Invalidate. A Get returns a version that is committed and not older than the newest one whose call has
// been made; each operation takes effect at one moment between its start and its end.
type (
	input struct {
		op      opKind
		version int64 // committed or called for
	}
	opKind int
	state  struct{ floor, committed int64 }
)

const (
	opGet opKind = iota
	opCommit
	opCall
)

// promise is C2 for one key. With strict it is more than tandem promises: that a commit is seen before the cache is told.
func promise(strict bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, out any) (bool, any) {
			st, i := s.(state), in.(input)
			switch i.op {
			case opCommit:
				st.committed = max(st.committed, i.version)
				if strict {
					st.floor = st.committed
				}
			case opCall:
				st.floor = max(st.floor, i.version)
			case opGet:
				v := out.(int64)
				return st.floor <= v && v <= st.committed, st
			}
			return true, st
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// record has several goroutines read and write one key of one instance, and returns what they did and saw.
func record(t *testing.T, in design.Instance, src *source.Source, key int, rng *rand.Rand) []porcupine.Operation {
	t.Helper()
	const clients, each = 6, 40
	var mu sync.Mutex
	var history []porcupine.Operation
	add := func(client int, i input, out int64, start int64) {
		end := clock.Now()
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: i, Output: out, Call: start, Return: end})
	}
	var all sync.WaitGroup
	for client := range clients {
		dice := rand.New(rand.NewPCG(rng.Uint64(), uint64(client)))
		all.Go(func() {
			for range each {
				// A key that is Set has one writer, the others two.
				if writers := 1 + key%2; client >= writers || dice.IntN(2) == 0 {
					start := clock.Now()
					v, err := in.Get(context.Background(), key)
					if err != nil {
						t.Errorf("Get: %v", err)
						return
					}
					add(client, input{op: opGet}, v.Version, start)
					continue
				}
				start := clock.Now()
				version := src.Commit(key)
				add(client, input{opCommit, version}, 0, start)
				start = clock.Now()
				var err error
				if key%2 == 0 {
					err = in.Set(context.Background(), design.Value{Key: key, Version: version})
				} else {
					err = in.Invalidate(context.Background(), key)
				}
				if err == nil {
					add(client, input{opCall, version}, 0, start)
				}
			}
		})
	}
	all.Wait()
	return history
}

// check records rounds of histories, each of a key of its own, and returns how many porcupine finds illegal.
func check(t *testing.T, name string, rounds int, model porcupine.Model) (illegal int) {
	t.Helper()
	srv := redisserver.Run(t, redisserver.Options{})
	src, err := source.Create(filepath.Join(t.TempDir(), "source"), rounds)
	require.NoError(t, err)
	rdb := design.NewClient(design.Address{Addr: srv.Addr()})
	seed := theSeed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	in, err := design.Start(name, design.Options{
		Redis: rdb, MaxStaleness: *staleness, TTL: time.Hour,
		Load: func(_ context.Context, key int) (design.Value, error) {
			v := design.Value{Key: key, Version: src.Read(key)}
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // what is committed meanwhile is not in it
			return v, nil
		},
	})
	require.NoError(t, err)
	defer func() {
		if err := in.Close(); !errors.Is(err, design.ErrPending) { // which a slow machine may leave
			require.NoError(t, err)
		}
		require.NoError(t, rdb.Close())
		require.NoError(t, src.Close())
	}()
	require.Eventually(t, func() bool { return in.Health().Trusted }, time.Minute, time.Millisecond)

	for key := range rounds {
		history := record(t, in, src, key, rng)
		result, _ := porcupine.CheckOperationsVerbose(model, history, time.Minute)
		require.NotEqual(t, porcupine.Unknown, result, "porcupine has not come to an end")
		if result == porcupine.Illegal {
			illegal++
		}
	}
	t.Logf("%s: %d of %d histories are illegal", name, illegal, rounds)
	return illegal
}

func linearRounds() int {
	if raceDetector {
		return 40
	}
	return 150
}

func TestHistoriesOfOneInstanceAreLinearizable(t *testing.T) {
	t.Parallel()
	require.Zero(t, check(t, design.Tandem, linearRounds(), promise(false)))
}

func TestHistoriesOfTheControlAreNot(t *testing.T) {
	t.Parallel()
	require.Positive(t, check(t, design.Control, linearRounds(), promise(false)))
}

// A model that promises more is refuted: porcupine does look at what it is given.
func TestAModelThatPromisesMoreIsRefuted(t *testing.T) {
	t.Parallel()
	require.Positive(t, check(t, design.Tandem, linearRounds(), promise(true)))
}
