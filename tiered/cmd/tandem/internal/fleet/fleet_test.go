package fleet_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/port"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	leak.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func startFleet(t *testing.T, cfg fleet.Config) *fleet.Fleet {
	t.Helper()
	cfg.Instances, cfg.Source = 2, source.New(0)
	cfg.Options = tiered.Options[source.User]{
		MaxStaleness: 3 * time.Second, RedisTimeout: patience, Logger: slog.New(slog.DiscardHandler),
	}
	f, err := fleet.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not within %v", patience)
	}
}

func TestABrokenSubscriptionBeginsAgain(t *testing.T) {
	t.Parallel()
	f := startFleet(t, fleet.Config{})
	victim, other := f.Instances[0], f.Instances[1]
	for name, breakLine := range map[string]func() bool{"cut": victim.Cut, "deaf": victim.Deafen} {
		before, unharmed := victim.Cache.Stats().Sessions, other.Cache.Stats()
		eventually(t, breakLine)
		eventually(t, func() bool { return victim.Cache.Stats().Sessions > before })
		require.NotZero(t, unharmed.Sessions, name)
	}
}

func TestASlowLoadIsWaitedFor(t *testing.T) {
	t.Parallel()
	src := source.New(tiered.DefaultLeaseWait + time.Second)
	f, err := fleet.Start(t.Context(), fleet.Config{Instances: 2, Source: src, Options: tiered.Options[source.User]{
		MaxStaleness: patience, RedisTimeout: patience, Logger: slog.New(slog.DiscardHandler),
	}})
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	got := make(chan error, 2)
	for _, i := range f.Instances {
		go func() {
			_, err := i.Cache.Get(t.Context(), "user:1")
			got <- err
		}()
	}
	for range f.Instances {
		require.NoError(t, <-got)
	}
	n, _ := src.Loads()
	require.EqualValues(t, 1, n, "the other instance waits for it")
}

func TestWriteIsJudged(t *testing.T) {
	t.Parallel()
	f := startFleet(t, fleet.Config{})
	row := source.New(0).Row("user:1") // of another source, so that what is read can be wrong
	tally := history.Tally{Bound: patience}
	reader, writer := f.Instances[0], f.Instances[1]

	require.NoError(t, reader.Read(t.Context(), row, &tally))
	require.NoError(t, tally.Err())
	repeats, err := writer.Write(t.Context(), row, false)
	require.NoError(t, err)
	require.Zero(t, repeats)
	require.NoError(t, reader.Read(t.Context(), row, &tally)) // the fleet's own source is still at 1
	require.EqualValues(t, 1, tally.Lagging)
	require.NoError(t, writer.Read(t.Context(), row, &tally))
	require.EqualValues(t, 1, tally.Own)

	repeats, err = writer.Write(t.Context(), row, true)
	require.NoError(t, err)
	require.Zero(t, repeats)
	require.NoError(t, writer.Read(t.Context(), row, &tally))
	require.EqualValues(t, 1, tally.Own, "a Set brings the version itself")

	require.NoError(t, writer.Cache.Set(t.Context(), row.Key, source.UserAt(row.Key, 9)))
	require.NoError(t, writer.Read(t.Context(), row, &tally))
	require.NoError(t, writer.Cache.Set(t.Context(), row.Key, source.UserAt("user:2", 1)))
	require.NoError(t, writer.Read(t.Context(), row, &tally))
	require.EqualValues(t, 2, tally.Wrong)
}

func TestCloseLeavesNothingInRedis(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	f := startFleet(t, fleet.Config{Redis: &target.Server{Options: &redis.Options{Addr: m.Addr()}}})
	require.Equal(t, m.Addr(), f.Where)
	_, err := f.Instances[0].Cache.Get(t.Context(), "user:1")
	require.NoError(t, err)
	require.NotEmpty(t, m.Keys())
	u, ok := f.Instances[0].Local("user:1")
	require.True(t, ok)
	require.EqualValues(t, 1, u.Version)
	_, ok = f.Instances[1].Local("user:1")
	require.False(t, ok)
	require.EqualValues(t, 1, fleet.Sum(f.Totals()).Loads)
	require.NoError(t, f.Close())
	require.Empty(t, m.Keys())
}

func TestStartSaysWhyNot(t *testing.T) {
	t.Parallel()
	nobody, err := port.Reserve()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, nobody.Release()) })
	addr := nobody.Addr()
	_, err = fleet.Start(t.Context(), fleet.Config{Redis: &target.Server{Options: &redis.Options{Addr: addr, DialerRetries: 1, MaxRetries: -1}}, Instances: 2, Source: source.New(0)})
	require.ErrorContains(t, err, "the Redis at "+addr)
}
