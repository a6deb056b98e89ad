package pubsub

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnsupportedServer is why a cluster is of no use whose nodes do not know sharded channels: see Explain.
	ErrUnsupportedServer = errors.New("pubsub: the cluster does not know sharded pub/sub; Redis 7.0 or later is needed")
	// ErrNoPermission is why a Redis is of no use to a user who lacks a permission: see Explain.
	ErrNoPermission = errors.New("pubsub: the Redis user lacks a permission: see ACL SETUSER, and give it " +
		"~tandem:* &tandem:* +@all -@dangerous +info, or those of these commands that are refused")
)

// Explain returns err, with what to change where that is known: if it is the reply of a node of a cluster that refuses something
// for good, what is returned wraps ErrNoPermission or ErrUnsupportedServer as well. All that a Cluster reports is explained, and by
// a Bus the former. It may be called concurrently, also with nil and with what it has returned.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	for _, r := range refusals {
		if errors.Is(err, r.as) {
			return err
		}
		for _, part := range r.parts {
			if strings.Contains(err.Error(), part) {
				return fmt.Errorf("%w: %w", r.as, err)
			}
		}
	}
	return err
}

// explainPermission is Explain for one Redis, of which no sharded channels are wanted.
func explainPermission(err error) error {
	if explained := Explain(err); errors.Is(explained, ErrNoPermission) {
		return explained
	}
	return err
}

// refusals are what replies contain. Those of commands in a script differ from those of others, and over the releases.
var refusals = []struct {
	as    error
	parts []string
}{
	{ErrUnsupportedServer, []string{"ERR unknown command", "Unknown Redis command", "Unknown command"}},
	{ErrNoPermission, []string{"NOPERM ", "The user executing the script can't ", "ACL failure in script"}},
}
