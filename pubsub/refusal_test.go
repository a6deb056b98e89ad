package pubsub

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRefusalsAreExplained(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]error{
		"NOPERM this user has no permissions to access one of the keys used as arguments":                                        ErrNoPermission,
		"NOPERM User limited has no permissions to run the 'evalsha' command":                                                    ErrNoPermission,
		"ERR The user executing the script can't publish to the channel mentioned in the command script: f1, on @user_script:1.": ErrNoPermission,
		"ERR ACL failure in script: No permissions to access a channel script: f1, on @user_script:1.":                           ErrNoPermission,
		"ERR unknown command 'ssubscribe', with args beginning with: 'tandem:users:{0}:bus:0'":                                   ErrUnsupportedServer,
		"ERR Unknown Redis command called from script script: f1, on @user_script:1.":                                            ErrUnsupportedServer,
		"CLUSTERDOWN The cluster is down":                   nil,
		"dial tcp 127.0.0.1:1: connect: connection refused": nil,
	} {
		refusal := errors.New(reply)
		explained := Explain(fmt.Errorf("in tandem:users:layout: %w", refusal))
		require.ErrorIs(t, explained, refusal)
		require.ErrorContains(t, explained, "in tandem:users:layout: "+reply)
		for _, why := range []error{ErrNoPermission, ErrUnsupportedServer} {
			require.Equal(t, errors.Is(want, why), errors.Is(explained, why), reply)
		}
		require.Equal(t, explained, Explain(explained), "once is enough")
	}
	require.NoError(t, Explain(nil))
	require.ErrorContains(t, ErrNoPermission, "see ACL SETUSER, and give it ")
	require.ErrorContains(t, ErrUnsupportedServer, "Redis 7.0 or later is needed")
}
