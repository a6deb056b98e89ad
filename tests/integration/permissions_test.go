package integration

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/tiered"
)

// What ACLs forbid is told, with what to change. That helps then, and nothing more is needed.
func TestPermissions(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		documented := []string{"~tandem:*", "&tandem:*", "+@all", "-@dangerous", "+info"}
		require.ErrorContains(t, pubsub.ErrNoPermission, strings.Join(documented, " "))
		for name, rules := range map[string][]string{
			"no channels": {"~tandem:*", "resetchannels", "+@all"},
			"no scripts":  {"~tandem:*", "&tandem:*", "+@all", "-@scripting"},
			"no keys":     {"~other:*", "&tandem:*", "+@all"},
		} {
			t.Run(name, func(t *testing.T) {
				r.limit(t, rules...)
				s := newSource(0)
				c, err := tiered.New(r.limited(t), r.name()+"-"+strings.ReplaceAll(name, " ", "-"), tiered.Options[Value]{
					Load: s.load, LocalBytes: 8 << 20, RedisTimeout: unhurried, Logger: slog.New(slog.DiscardHandler),
				})
				require.NoError(t, err)
				t.Cleanup(func() { _ = c.Close() })
				refused := tellsWhy(t, c, pubsub.ErrNoPermission)
				require.ErrorContains(t, refused, "ACL SETUSER")
				if r.partitions() > 1 {
					require.ErrorContains(t, refused, ":layout: ", "heartbeats are not even tried")
				}
				require.Zero(t, get(t, c, "k"), "from the source")

				r.limit(t, documented...)
				require.NoError(t, c.Ready(soon(t)))
				s.write("k")
				require.NoError(t, c.Invalidate(soon(t), "k"))
				require.EqualValues(t, 1, get(t, c, "k"))
			})
		}
	})
}

// limit says what the user of limited may do, and no more, everywhere.
func (r *rig) limit(t *testing.T, rules ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "limited", "reset", "on", ">secret"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	r.everywhere(t, func(ctx context.Context, admin *redis.Client) error { return admin.Do(ctx, args...).Err() })
}

// limited is a client of that user.
func (r *rig) limited(t *testing.T) redis.UniversalClient {
	t.Helper()
	opts := redis.UniversalOptions{Username: "limited", Password: "secret"}
	for _, srv := range r.masters {
		opts.Addrs = append(opts.Addrs, srv.Addr())
	}
	rdb := redis.NewUniversalClient(&opts) // one address is a single Redis
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// tellsWhy requires that Health and Ready say why, and returns what they say.
func tellsWhy(t *testing.T, c *tiered.Cache[Value], why error) error {
	t.Helper()
	var told error
	eventually(t, "Health tells", func() bool { told = c.Health().RedisError; return errors.Is(told, why) })
	eventually(t, "Ready tells", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := c.Ready(ctx)
		return errors.Is(err, context.DeadlineExceeded) && errors.Is(err, why)
	})
	return told
}
