package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/examples/internal/running"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { running.Main(m, main) }

func productPath(id int) string { return fmt.Sprintf("/products/%d", id) }

func product(id int, category string, cents int64) (path, body string) {
	return productPath(id), fmt.Sprintf(`{"name":"number %d","cents":%d,"category":%q}`, id, cents, category)
}

func put(t require.TestingT, p *running.Process, id int, category string, cents int64) {
	path, body := product(id, category, cents)
	p.Send(t, http.StatusNoContent, http.MethodPut, path, body)
}

// A change is seen at once where it was made, and soon by the other instance: in the product, in the lists that it leaves
// and enters, and in that it is there at all.
func TestAnUpdateIsSeen(t *testing.T) {
	t.Parallel()
	redis := redisserver.Run(t, redisserver.Options{})
	file := filepath.Join(t.TempDir(), "catalogue.db")
	a := running.Start(t, "-db", file, "-redis", redis.Addr())
	b := running.Start(t, "-db", file, "-redis", redis.Addr())
	a.AwaitReady(t)
	b.AwaitReady(t)

	costs := func(p *running.Process, cents int64) bool {
		var got Product
		return p.Get(t, productPath(1), &got) == http.StatusOK && got.Cents == cents
	}
	lists := func(p *running.Process, category string, want ...Item) bool {
		var got []Item
		require.Equal(t, http.StatusOK, p.Get(t, "/categories/"+category, &got))
		return slices.Equal(got, want)
	}
	missing := func(p *running.Process) bool {
		var got Product
		return p.Get(t, productPath(1), &got) == http.StatusNotFound
	}
	// both says that it holds for the first at once, and for the second soon: within MaxStaleness, if Redis could be told.
	both := func(first, second *running.Process, holds func(*running.Process) bool) {
		t.Helper()
		require.True(t, holds(first))
		running.Within(t, running.Deadline, func() bool { return holds(second) })
	}
	item := func(cents int64) Item { return Item{ID: 1, Name: "number 1", Cents: cents} }

	require.True(t, missing(a))
	require.True(t, missing(b)) // and both remember
	put(t, a, 1, "tea", 300)
	both(a, b, func(p *running.Process) bool { return costs(p, 300) && lists(p, "tea", item(300)) && lists(p, "cocoa") })

	put(t, a, 1, "tea", 310)
	both(a, b, func(p *running.Process) bool { return costs(p, 310) && lists(p, "tea", item(310)) })

	put(t, b, 1, "cocoa", 310)
	both(b, a, func(p *running.Process) bool { return lists(p, "tea") && lists(p, "cocoa", item(310)) })

	a.Send(t, http.StatusNoContent, http.MethodDelete, productPath(1), "")
	both(a, b, func(p *running.Process) bool { return missing(p) && lists(p, "cocoa") })
}

// The catalogue goes on without Redis, and an update made meanwhile is seen.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	redis := redisserver.Run(t, redisserver.Options{})
	p := running.Start(t, "-db", filepath.Join(t.TempDir(), "catalogue.db"), "-redis", redis.Addr())
	p.AwaitReady(t)
	costs := func(cents int64) {
		t.Helper()
		var got Product
		require.Equal(t, http.StatusOK, p.Get(t, productPath(1), &got))
		require.Equal(t, cents, got.Cents)
	}
	put(t, p, 1, "tea", 300)
	costs(300)
	require.NoError(t, redis.Kill())
	put(t, p, 1, "tea", 310)
	costs(310)
	require.NoError(t, redis.Restart())
	p.AwaitReady(t)
	costs(310)
	put(t, p, 1, "tea", 320)
	costs(320)
}

const (
	products   = 300
	categories = 15
	reviews    = 15_000
)

// shop makes a database file.
func shop(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "catalogue.db")
	s, err := openStore(t.Context(), file)
	require.NoError(t, err)
	defer s.Close()
	for n, fill := range map[int]string{
		products: fmt.Sprintf(`INSERT INTO products SELECT i, 'number ' || i, 0, 'c' || (i %% %d) FROM n`, categories),
		reviews:  fmt.Sprintf(`INSERT INTO reviews SELECT 1 + i %% %d, 1 + i %% 5 FROM n`, products),
	} {
		numbers := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) `, n)
		_, err := s.db.ExecContext(t.Context(), numbers+fill)
		require.NoError(t, err)
	}
	return file
}

// With the cache the database is read seldom, and no answer is older than an update that had been answered before.
func TestWithAndWithoutTheCache(t *testing.T) {
	redis := redisserver.Run(t, redisserver.Options{})
	subject := func(args ...string) running.Subject {
		p := running.Start(t, append(args, "-db", shop(t), "-redis", redis.Addr())...)
		p.AwaitReady(t)
		for id := range products { // each run begins with what is asked for often
			p.Send(t, http.StatusOK, http.MethodGet, productPath(id+1), "")
		}
		for c := range categories {
			p.Send(t, http.StatusOK, http.MethodGet, fmt.Sprintf("/categories/c%d", c), "")
		}
		var prices [products + 1]price
		return running.Subject{Processes: []*running.Process{p}, Request: func(random *rand.Rand) bool {
			id := 1 + running.Skewed(random, products)
			switch n := random.IntN(500); {
			case n == 0:
				return prices[id].raise(t, p, id)
			case n <= 100:
				var got []Item
				return assert.Equal(t, http.StatusOK, p.Get(t, fmt.Sprintf("/categories/c%d", id%categories), &got)) &&
					assert.Len(t, got, products/categories)
			default:
				return prices[id].check(t, p, id)
			}
		}}
	}
	with, without := running.Compare(t, "reads of the database", subject(), subject("-cache=false"))
	require.Greater(t, without.SourcePerRequest(), 0.9)
	require.Less(t, with.SourcePerRequest(), 0.1)
}

// price is what a product costs at least, as it only rises.
type price struct {
	raising sync.Mutex
	cents   atomic.Int64
}

func (c *price) raise(t *testing.T, p *running.Process, id int) bool {
	c.raising.Lock()
	defer c.raising.Unlock()
	cents := c.cents.Load() + 1
	path, body := product(id, fmt.Sprintf("c%d", id%categories), cents)
	status, answer, err := p.Do(http.MethodPut, path, body)
	c.cents.Store(cents) // from here on nobody may see less
	return assert.NoError(t, err) && assert.Equal(t, http.StatusNoContent, status, "%s", answer)
}

func (c *price) check(t *testing.T, p *running.Process, id int) bool {
	least := c.cents.Load()
	var got Product
	return assert.Equal(t, http.StatusOK, p.Get(t, productPath(id), &got)) &&
		assert.GreaterOrEqual(t, got.Cents, least, "product %d", id)
}
