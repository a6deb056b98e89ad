// Package tieredprom shows caches to Prometheus.
//
//	collector := tieredprom.New()
//	users, err := tiered.New(rdb, "users", tiered.Options[User]{Load: load, Observer: collector})
//	collector.Add(users)
//	prometheus.MustRegister(collector)
//
// Every number of tiered.Stats and tiered.Health is a metric, read when Prometheus asks, with the label cache. As an Observer
// the Collector adds histograms: tandem_load_duration_seconds by result (ok, not_found, error),
// tandem_redis_call_duration_seconds by operation and result, and tandem_invalidation_lag_seconds of other instances'
// messages, by the clock of Redis. One Collector serves any number of caches; the histograms of one that it was not given as
// an Observer stay empty.
//
// The metrics are of this process. What the fleet does is their sum, and what it promises their maximum.
package tieredprom

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemcache/tandem/tiered"
)

// Cache is what a Collector reads: a *tiered.Cache of any type. A closed one may be read.
type Cache interface {
	Name() string
	Stats() tiered.Stats
	Health() tiered.Health
}

// Collector is a prometheus.Collector, and an Observer for tiered.Options. Its methods may be called concurrently.
type Collector struct {
	tiered.NopObserver
	loads, calls, lags *prometheus.HistogramVec

	mu     sync.Mutex // protects caches
	caches []Cache
}

var (
	_ prometheus.Collector = (*Collector)(nil)
	_ tiered.Observer      = (*Collector)(nil)
)

// New returns a Collector without caches.
func New() *Collector {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		}, append([]string{"cache"}, labels...))
	}
	return &Collector{
		loads: histogram("load_duration_seconds", "Time of the loader's calls.",
			prometheus.ExponentialBuckets(0.0005, 2, 15), "result"), // to 8 s
		calls: histogram("redis_call_duration_seconds", "Time of calls to Redis, waiting for a shared round trip included.",
			prometheus.ExponentialBuckets(0.0001, 2, 13), "operation", "result"), // to 0.4 s
		lags: histogram("invalidation_lag_seconds", "Time from the sending of another instance's invalidation to its being heard, by the clock of Redis.",
			prometheus.ExponentialBuckets(0.001, 2, 13)), // to 4 s
	}
}

// Add has the Collector show caches from now on. A cache of a name that is shown already takes the other's place, for two of
// one name in one process would be the same metrics: give the second one another Collector, registered with a label of its own.
func (c *Collector) Add(caches ...Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, added := range caches {
		c.removeLocked(added.Name())
		c.caches = append(c.caches, added)
	}
}

// Remove has the Collector show the cache of this name no more.
func (c *Collector) Remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(name)
	for _, h := range []*prometheus.HistogramVec{c.loads, c.calls, c.lags} {
		h.DeletePartialMatch(prometheus.Labels{"cache": name})
	}
}

func (c *Collector) removeLocked(name string) {
	c.caches = slices.DeleteFunc(c.caches, func(other Cache) bool { return other.Name() == name })
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range statMetrics {
		ch <- m.desc
	}
	for _, m := range healthMetrics {
		ch <- m.desc
	}
	c.loads.Describe(ch)
	c.calls.Describe(ch)
	c.lags.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	caches := slices.Clone(c.caches)
	c.mu.Unlock()
	for _, cache := range caches {
		name, s, h := cache.Name(), cache.Stats(), cache.Health()
		for _, m := range statMetrics {
			m.collect(ch, name, s)
		}
		for _, m := range healthMetrics {
			m.collect(ch, name, h)
		}
	}
	c.loads.Collect(ch)
	c.calls.Collect(ch)
	c.lags.Collect(ch)
}

// LoadEnded implements tiered.Observer.
func (c *Collector) LoadEnded(_ context.Context, e tiered.LoadEnd) {
	result := resultOf(e.Err)
	if errors.Is(e.Err, tiered.ErrNotFound) {
		result = "not_found"
	}
	c.loads.WithLabelValues(e.Cache, result).Observe(e.Took.Seconds())
}

// RemoteCalled implements tiered.Observer.
func (c *Collector) RemoteCalled(_ context.Context, e tiered.RemoteCall) {
	c.calls.WithLabelValues(e.Cache, e.Op, resultOf(e.Err)).Observe(e.Took.Seconds())
}

// InvalidationReceived implements tiered.Observer.
func (c *Collector) InvalidationReceived(e tiered.Invalidation) {
	if e.LagKnown && !e.Own {
		c.lags.WithLabelValues(e.Cache).Observe(e.Lag.Seconds())
	}
}

func resultOf(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
