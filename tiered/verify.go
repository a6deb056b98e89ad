package tiered

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/lineage"
)

// errNotTheServer is why a connection is not used: it does not lead to the server that takes the heartbeats, or that is not
// known.
var errNotTheServer = errors.New("tiered: not the Redis server of the heartbeat")

// Reads count only on the server that takes the heartbeats, and a new connection may lead to another one:
//
//  1. a heartbeat has succeeded, so L2 is believed for MaxStaleness;
//  2. the master dies, and a replica that lacks an invalidation takes its place;
//  3. a read finds its connection dead and dials: it would read on the replica what was invalidated, before any heartbeat
//     fails or sees that the server is new.
//
// So a new connection is asked who its server is. That costs a round trip for each connection and none for a call.

// verifyData refuses a connection to another server than the heartbeat's, also while that is not known: a heartbeat has
// failed then, and the next one decides.
func (b *Bus) verifyData(ctx context.Context, cn *redis.Conn, node string) error {
	if _, known := b.hub.Server(node); !known {
		return fmt.Errorf("%w: no heartbeat has told which one it is", errNotTheServer)
	}
	return b.verify(ctx, cn, node)
}

// verify refuses a connection to another server than the heartbeat's, if that is known. Connections of heartbeats, writes
// and the subscription lead wherever they do while it is not, for a heartbeat to find out.
func (b *Bus) verify(ctx context.Context, cn *redis.Conn, node string) error {
	info, err := cn.Info(ctx, "replication").Result()
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) {
		return err
	}
	s, tells := lineage.Parse(info)
	switch want, known := b.hub.Server(node); {
	case !tells && known && want != "":
		// The one told when it was asked by a heartbeat, so this is another one, or it cannot be asked now.
		return fmt.Errorf("%w: this one does not tell which it is", errors.Join(errNotTheServer, err))
	case !tells:
		return nil
	case !s.Master: // it shares its master's replication id, and may be behind
		return fmt.Errorf("%w: a replica", errNotTheServer)
	case !b.hub.Reached(node, s.ID):
		return fmt.Errorf("%w: another one", errNotTheServer)
	}
	return nil
}
