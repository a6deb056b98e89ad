package faults

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// bombs are replies that claim, or bring, more than any answer to us can have.
var bombs = map[string]reply{
	"a string of 512 MB":    {bytes: []byte("$536870912\r\n")},
	"an array of 5 million": {bytes: []byte("*5000000\r\n")},
	"a map of 5 million":    {bytes: []byte("%5000000\r\n")},
	"a push of 5 million":   {bytes: []byte(">5000000\r\n")},
	"nested arrays":         {bytes: []byte(strings.Repeat("*1\r\n", 100_000)), forever: true},
	"an endless line":       {bytes: bytes.Repeat([]byte("+"), 64<<10), forever: true},
}

// places are the requests that a bomb can be the answer to.
var places = map[string]struct {
	of      []kind
	command []string
	strike  func(*proxy)
}{
	"read":         {of: []kind{data}, command: []string{"hget"}},
	"script":       {of: []kind{control, data}, command: []string{"evalsha", "eval"}},
	"subscription": {of: []kind{bus}, command: []string{"subscribe"}, strike: func(p *proxy) { p.cut(bus) }},
}

// C5 and C7 for a server, or something in its place, that answers with a bomb: it costs its Get one Redis wait and the
// process no memory.
func TestLengthBombs(t *testing.T) {
	for where, place := range places {
		for what, bomb := range bombs {
			t.Run(where+"/"+what, func(t *testing.T) {
				leavesNothing(t)
				srv, s := startRedis(t), newSource(0)
				p, log := newProxy(t, srv.Addr()), &logbook{}
				writer := ready(t, srv.Addr(), s, staleness(listenBound))
				c := instance(t, p.addr(), s, log, staleness(listenBound))
				trusted(t, c)
				require.Zero(t, get(t, c, "k"))
				heap := watchHeap(t)
				p.set(rule{answer: answerTo(bomb, place.command...)}, place.of...)
				if place.strike != nil {
					place.strike(p)
				}

				var slowest time.Duration
				for i := range 20 {
					began := time.Now()
					require.Zero(t, get(t, c, fmt.Sprint("cold", i)))
					slowest = max(slowest, time.Since(began))
				}
				v := s.write("k")
				confirm.Within(t, patience, func() error { return writer.Invalidate(context.Background(), "k") })
				acknowledged := time.Now()
				for began := acknowledged; get(t, c, "k") < v; began = time.Now() {
					require.Less(t, began.Sub(acknowledged), listenBound, "C3")
				}
				p.heal()
				healed := trusted(t, c)
				require.Equal(t, v, get(t, c, "k"))
				grown, highest := heap.end()
				t.Logf("20 cold reads, slowest %v; heap grown by %d kB after a collection, at most by %d MB; %d log lines; trusted %v after",
					round(slowest), grown>>10, highest>>20, log.count(""), round(healed))
				require.Less(t, slowest, tiered.DefaultRedisTimeout+slack)
				require.Less(t, grown, int64(16<<20))
				require.Less(t, highest, int64(hugeBytes))
				require.Less(t, log.count(""), 30)
			})
		}
	}
}

func answerTo(r reply, commands ...string) func([]byte) *reply {
	return func(piece []byte) *reply {
		for _, command := range commands {
			if bytes.Contains(piece, []byte("\r\n"+command+"\r\n")) {
				return &r
			}
		}
		return nil
	}
}
