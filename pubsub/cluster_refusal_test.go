package pubsub

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestOnAClusterWhatIsRefused(t *testing.T) {
	t.Parallel()
	admin := func(r *clusterRig, args ...any) {
		for _, n := range r.servers.Masters() {
			require.NoError(r, n.Client().Do(r.Context(), args...).Err())
		}
	}
	for name, c := range map[string]struct {
		rules string
		want  error
	}{
		"channels":     {"~tandem:* resetchannels +@all", ErrNoPermission},
		"keys":         {"~other:* &tandem:* +@all", ErrNoPermission},
		"to subscribe": {"~tandem:* &tandem:* +@all -ssubscribe", ErrNoPermission},
		"to publish":   {"~tandem:* &tandem:* +@all -spublish", ErrNoPermission},
		"scripts":      {"~tandem:* &tandem:* +@all -evalsha -eval", ErrNoPermission},
		"nothing":      {"~tandem:* &tandem:* +@all -@dangerous +info", nil},
		"to ask who":   {"~tandem:* &tandem:* +@all -info", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := fmt.Sprint("user", rigs.Add(1))
			r := newClusterRigOn(t, calm.Run(t), nil, func(o *redis.ClusterOptions) { o.Username, o.Password = user, "secret" })
			args := []any{"ACL", "SETUSER", user, "on", ">secret"}
			for rule := range strings.FieldsSeq(c.rules) {
				args = append(args, rule)
			}
			admin(r, args...)
			e, _ := r.listen(2)
			if c.want != nil {
				r.eventually("the reason", func() bool { return errors.Is(e.latest().Err, c.want) })
				for range 5 {
					reports := len(e.reports())
					r.eventually("a report", func() bool { return len(e.reports()) > reports })
					require.ErrorIs(t, e.latest().Err, c.want, "and no other one in between")
				}
				require.Zero(t, e.count("prove"))
				admin(r, "ACL", "SETUSER", user, "~tandem:*", "&tandem:*", "+@all")
			}
			r.eventually("a proof", e.proven)
			r.proves("another one", e)
		})
	}
}

// A cluster of Redis 6.2 does not know sharded channels.
func TestOnAClusterThatIsTooOld(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{
		Replicas: -1, Args: []string{"--rename-command", "SPUBLISH", "", "--rename-command", "SSUBSCRIBE", ""},
	}, nil)
	e, _ := r.listen(2)
	r.eventually("the reason", func() bool { return errors.Is(e.latest().Err, ErrUnsupportedServer) })
	for range 3 {
		reports := len(e.reports())
		r.eventually("a report", func() bool { return len(e.reports()) > reports })
		require.ErrorIs(t, e.latest().Err, ErrUnsupportedServer)
	}
	require.Zero(t, e.count("begin"))
}
