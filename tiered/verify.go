package tiered

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/lineage"
)

var (
	errOtherServer   = errors.New("tiered: the connection leads to another Redis server than the heartbeat's")
	errReplica       = errors.New("tiered: the connection leads to a Redis replica, which takes no writes")
	errUnknownServer = errors.New("tiered: the heartbeat has not said yet which Redis server is the one")
)

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
func (b *Bus) verifyData(ctx context.Context, cn *redis.Conn) error {
	if _, known := b.hub.Server(); !known {
		return errUnknownServer
	}
	return b.verify(ctx, cn)
}

// verify refuses a connection to another server than the heartbeat's, if that is known. Connections of heartbeats, writes
// and the subscription lead wherever they do while it is not, for a heartbeat to find out.
func (b *Bus) verify(ctx context.Context, cn *redis.Conn) error {
	info, err := cn.Info(ctx, "replication").Result()
	var reply redis.Error
	switch {
	case errors.As(err, &reply):
		return nil // it does not tell
	case err != nil:
		return err
	}
	s, ok := lineage.Parse(info)
	switch {
	case !ok:
		return nil
	case !s.Master: // it shares its master's replication id, and may be behind
		return errReplica
	case !b.hub.Reached(s.ID):
		return errOtherServer
	}
	return nil
}
