// Package peers holds the competitors, one a file, behind one interface. Each reads through: what it does not have it asks
// Setting.Load for, and keeps.
package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// ErrCold is what a LoadFunc returns where everything should be cached by now.
var ErrCold = errors.New("a read that should have been a hit was a miss")

// LoadFunc is the source: it returns the user under key.
type LoadFunc func(key string) (workload.User, error)

// Setting is what a competitor is opened with.
type Setting struct {
	Addr    string   // of the Redis; those that need none ignore it
	Cluster []string // of the nodes of a cluster, which is used instead by those who can
	Load    LoadFunc // the source
}

// client returns one with go-redis' defaults.
func (s Setting) client() redis.UniversalClient {
	if len(s.Cluster) > 0 {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.Cluster})
	}
	return redis.NewClient(&redis.Options{Addr: s.Addr})
}

// Reader is a competitor at work. Read returns the ID in the value of key, once it has the whole value; it may be called
// concurrently.
type Reader interface {
	Read(key string) (int64, error)
	Close() error
}

// Commander is a Reader that knows how many commands it has sent to Redis. Of the others, every command that Redis ran is
// one that was sent.
type Commander interface{ Commands() uint64 }

// Batcher is a Reader that does more than read one key. Its methods may be called concurrently.
type Batcher interface {
	Reader
	// ReadMany returns the values of keys, and ErrCold, or what the source returns, if it does not have all of them.
	ReadMany(keys []string) (map[string]workload.User, error)
	// Store makes Redis have the users of keys.
	Store(keys []string) error
	// Drop makes Redis have them no longer.
	Drop(keys []string) error
}

// Stater is a Reader that can say what may have made it read from Redis what it held.
type Stater interface{ State() string }

// Peer is a competitor.
type Peer struct {
	Name  string
	Asked string // what it is asked to do, for the fairness note
	Open  func(Setting) (Reader, error)
}

const (
	// capacity is the size of caches that count entries: ten times what they are given, so that none evicts.
	capacity = 100_000
	// ttl is beyond the end of every run.
	ttl = time.Hour
)

// Names returns the peers' names.
func Names(list []Peer) []string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	return names
}

// FillRedis stores the users of keys in Redis as the readers without a format of their own expect them.
func FillRedis(ctx context.Context, addr string, keys []string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	return store(ctx, rdb, keys)
}

func store(ctx context.Context, rdb redis.UniversalClient, keys []string) error {
	pipe := rdb.Pipeline()
	for _, key := range keys {
		id, err := workload.ID(key)
		if err != nil {
			return err
		}
		data, err := encode(workload.NewUser(id))
		if err != nil {
			return err
		}
		pipe.Set(ctx, key, data, ttl)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("filling Redis: %w", err)
	}
	return nil
}

// encode and decode are tandem's default codec, which everybody uses who takes one.
func encode(u workload.User) ([]byte, error) { return codec.Default.Marshal(&u) }

func decode(data []byte) (workload.User, error) {
	var u workload.User
	err := codec.Default.Unmarshal(data, &u)
	return u, err
}

func decodeID(data []byte) (int64, error) {
	u, err := decode(data)
	return u.ID, err
}
