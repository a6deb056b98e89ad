package tiered

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
)

// exiting is a codec that ends its goroutine where it is told to.
type exiting struct {
	codec.Codec
	exit *atomic.Bool
}

func (e exiting) Unmarshal(b []byte, v any) error {
	if e.exit.CompareAndSwap(true, false) {
		runtime.Goexit()
	}
	return e.Codec.Unmarshal(b, v)
}

// A codec that ends the goroutine of one part of a large GetMany must not leave the parts behind it in flight for ever.
func TestAnExitInOnePartOfABatchLeavesTheOthers(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	var exit atomic.Bool
	c := bulkFleet(t, 1, r, b, func(o *Options[int]) {
		o.Codec, o.RedisTimeout = exiting{codec.JSON, &exit}, 10*time.Second // keys[0] is to be read
	})[0]
	keys := make([]string, (maxParts+1)*remote.MaxBatch)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	getMany(t, c, keys[0])
	c.EvictLocal(keys[0])
	r.intercept(func(cmd string, args []string) error {
		if strings.HasPrefix(cmd, "EVAL") && !isBeat(cmd, args) {
			return errSource // leases for so many keys would take an embedded Redis seconds
		}
		return nil
	})
	exit.Store(true)
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := c.GetMany(ctx, keys); done <- err }()
	err := wait(t, "the batch", done)
	require.ErrorIs(t, err, ErrLoaderExited)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	eventually(t, "no flight is left behind", func() bool { return c.flights.underway() == 0 })
}
