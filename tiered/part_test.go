package tiered

import (
	"sync"
	"testing"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
)

// A heartbeat that finds a part on another node stops where it takes what is to be repeated from the journal. Changes go to
// that node by then: see part.start.
func TestChangesGoToTheNodeBeforeTheJournalIsTaken(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c := instance(t, r, newSource())
	p := c.parts[0]
	now := p.home.Load()

	p.journal.mu.Lock()
	goOn := sync.OnceFunc(p.journal.mu.Unlock)
	defer goOn()
	p.home.Store(&node{}) // that of before
	var beat sync.WaitGroup
	beat.Go(func() {
		listener[int]{c, p}.Beat(pubsub.BeatReport{
			Sent: mono.Now(), Received: mono.Now(), RedisNow: 1, Version: "0123456789abcdef", Moved: true,
		})
	})
	eventually(t, "changes go to the node of the heartbeat", func() bool { return p.home.Load() == now })
	goOn()
	beat.Wait()
}
