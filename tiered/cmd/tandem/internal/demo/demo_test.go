package demo

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

func TestASlowSourceIsNotTakenForABrokenPromise(t *testing.T) {
	t.Parallel()
	const patience = 20 * time.Second
	cfg := Config{Instances: 2, Load: waitLimit}
	src := source.New(cfg.Load)
	f, err := fleet.Start(t.Context(), fleet.Config{Instances: cfg.Instances, Source: src, Options: tiered.Options[source.User]{
		MaxStaleness: patience, RedisTimeout: patience, Logger: slog.New(slog.DiscardHandler),
	}})
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	d := &demo{Config: cfg, fleet: f, source: src, out: ui.New(io.Discard)}
	require.NoError(t, d.warm(t.Context(), src.Row("user:1")))
}
