package tieredprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemcache/tandem/tiered"
)

const namespace = "tandem"

// metric is one number of a cache, read when Prometheus asks.
type metric[T any] struct {
	desc   *prometheus.Desc
	labels []string // values of the labels behind "cache"
	kind   prometheus.ValueType
	of     func(T) float64
}

func counter[T any, N ~uint64 | ~int64](name, help string, of func(T) N) metric[T] {
	return newMetric(name, help, prometheus.CounterValue, func(t T) float64 { return float64(of(t)) })
}

func gauge[T any, N ~int | ~int64](name, help string, of func(T) N) metric[T] {
	return newMetric(name, help, prometheus.GaugeValue, func(t T) float64 { return float64(of(t)) })
}

func state[T any](name, help string, of func(T) bool) metric[T] {
	return newMetric(name, help, prometheus.GaugeValue, func(t T) float64 {
		if of(t) {
			return 1
		}
		return 0
	})
}

func newMetric[T any](name, help string, kind prometheus.ValueType, of func(T) float64) metric[T] {
	return metric[T]{desc: describe(name, help), kind: kind, of: of}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, append([]string{"cache"}, labels...), nil)
}

// labelled are metrics of one name that differ in one label.
func labelled[T any](name, help, label string, kind prometheus.ValueType, of map[string]func(T) float64) []metric[T] {
	desc := describe(name, help, label)
	var out []metric[T]
	for value, f := range of {
		out = append(out, metric[T]{desc: desc, labels: []string{value}, kind: kind, of: f})
	}
	return out
}

func (m metric[T]) collect(ch chan<- prometheus.Metric, cache string, t T) {
	ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(t), append([]string{cache}, m.labels...)...)
}

type (
	stats  = tiered.Stats
	health = tiered.Health
)

var statMetrics = append(append(append([]metric[stats]{
	counter("joined_total", "Gets that shared a read or load already under way.", func(s stats) uint64 { return s.Joined }),
	counter("remote_read_bytes_total", "Bytes of entries that Redis has sent.", func(s stats) uint64 { return s.RemoteBytesRead }),
	counter("remote_written_bytes_total", "Bytes of entries that Redis has stored.", func(s stats) uint64 { return s.RemoteBytesWritten }),
	counter("loads_total", "Calls of a loader.", func(s stats) uint64 { return s.Loads }),
	counter("load_errors_total", "Loads that failed, not found not included.", func(s stats) uint64 { return s.LoadErrors }),
	counter("load_not_found_total", "Loads that found that the key does not exist.", func(s stats) uint64 { return s.NotFound }),
	newMetric("load_seconds_total", "Time that loads took, those of the same time added up.", prometheus.CounterValue,
		func(s stats) float64 { return s.LoadTime.Seconds() }),
	counter("refreshes_total", "Loads in the background of values past RefreshAfter.", func(s stats) uint64 { return s.Refreshes }),
	counter("refresh_errors_total", "Refreshes that failed.", func(s stats) uint64 { return s.RefreshErrors }),
	counter("refresh_unchanged_total", "Refreshes that brought what was there.", func(s stats) uint64 { return s.RefreshUnchanged }),
	counter("refresh_skipped_total", "Refreshes put off because as many as may run at once did.", func(s stats) uint64 { return s.RefreshSkipped }),
	counter("stale_total", "Gets answered with an expired value, because the load failed or took long.", func(s stats) uint64 { return s.Stale }),
	counter("lease_waits_total", "Times that a load waited for another instance's.", func(s stats) uint64 { return s.LeaseWaits }),
	counter("bad_entries_total", "Entries in Redis that could not be used.", func(s stats) uint64 { return s.BadEntries }),
	counter("sets_total", "Sets sent to Redis.", func(s stats) uint64 { return s.Sets }),
	counter("invalidated_keys_total", "Keys that this instance invalidated.", func(s stats) uint64 { return s.Invalidated }),
	counter("received_keys_total", "Keys whose invalidation was heard on the bus, its own included.", func(s stats) uint64 { return s.Received }),
	counter("tracked_keys_total", "Keys dropped from L1 because Redis had another value or none.", func(s stats) uint64 { return s.Tracked }),
	counter("unreadable_messages_total", "Messages on the bus that could not be read; each drops L1.", func(s stats) uint64 { return s.Unreadable }),
	counter("sessions_total", "Subscriptions that began; each drops L1.", func(s stats) uint64 { return s.Sessions }),
	newMetric("local_untrusted_seconds_total", "Time in which L1 had no proof that it hears invalidations.", prometheus.CounterValue,
		func(s stats) float64 { return s.Untrusted.Seconds() }),
	counter("redis_commands_total", "Commands sent to Redis for the cache, heartbeats not included.", func(s stats) uint64 { return s.Commands }),
	counter("redis_errors_total", "Commands that failed.", func(s stats) uint64 { return s.RedisErrors }),
	counter("redis_server_changes_total", "Times that Redis may have lost what it had confirmed.", func(s stats) uint64 { return s.ServerChanges }),
	counter("replayed_keys_total", "Keys whose invalidation was repeated because Redis may have lost it.", func(s stats) uint64 { return s.Replayed }),
	counter("breaker_opened_total", "Times that reads were kept from a Redis that did not answer them.", func(s stats) uint64 { return s.BreakerOpened }),
	counter("audited_entries_total", "Entries of L1 that an audit has compared with what Redis has.", func(s stats) uint64 { return s.Audited }),
	counter("diverged_entries_total", "Entries of L1 that were served for longer than MaxStaleness although Redis had a later value.", func(s stats) uint64 { return s.Diverged }),
	counter("unobserved_events_total", "Events that Options.Observer was too slow for.", func(s stats) uint64 { return s.Unobserved }),
	gauge("local_bytes", "Estimated heap of L1.", func(s stats) int64 { return s.LocalBytes }),
	gauge("local_limit_bytes", "Budget of L1.", func(s stats) int64 { return s.LocalLimit }),
},
	labelled("hits_total", "Reads that a tier answered, not found included.", "tier", prometheus.CounterValue, map[string]func(stats) float64{
		"local":  func(s stats) float64 { return float64(s.LocalHits) },
		"remote": func(s stats) float64 { return float64(s.RemoteHits) },
	})...),
	labelled("misses_total", "Reads that a tier did not answer.", "tier", prometheus.CounterValue, map[string]func(stats) float64{
		"local":  func(s stats) float64 { return float64(s.LocalMisses) },
		"remote": func(s stats) float64 { return float64(s.RemoteMisses) },
	})...),
	labelled("fills_total", "Loaded values by what became of them: stored in Redis, refused after an invalidation, or not to be stored.",
		"result", prometheus.CounterValue, map[string]func(stats) float64{
			"stored":   func(s stats) float64 { return float64(s.Fills) },
			"refused":  func(s stats) float64 { return float64(s.Refused) },
			"unstored": func(s stats) float64 { return float64(s.Unstored) },
		})...)

var healthMetrics = append([]metric[health]{
	state("ready", "Whether the cache has been connected.", func(h health) bool { return h.Ready }),
	state("closed", "Whether the cache is closed.", func(h health) bool { return h.Closed }),
	state("local_trusted", "Whether L1 has a proof that it hears invalidations.", func(h health) bool { return h.LocalTrusted }),
	state("remote_trusted", "Whether Redis took a heartbeat within MaxStaleness.", func(h health) bool { return h.RemoteTrusted }),
	state("tracking", "Whether Redis tells of every change.", func(h health) bool { return h.Tracking }),
	state("breaker_open", "Whether reads are kept from Redis.", func(h health) bool { return h.BreakerOpen }),
	state("redis_failing", "Whether the last heartbeat failed.", func(h health) bool { return h.RedisError != nil }),
	newMetric("proof_age_seconds", "How long ago the instance last heard itself, 0 if it did not in this session.", prometheus.GaugeValue,
		func(h health) float64 { return h.ProofAge.Seconds() }),
	gauge("pending_keys", "Keys whose invalidation Redis has not confirmed.", func(h health) int { return h.PendingKeys }),
	state("pending_all", "Whether the invalidation of everything is not confirmed.", func(h health) bool { return h.PendingAll }),
}, labelled("queued", "What waits or is under way: flights (keys that are read or loaded), reads, loads, invalidations, events.", "queue",
	prometheus.GaugeValue, map[string]func(health) float64{
		"flights":       func(h health) float64 { return float64(h.Flights) },
		"reads":         func(h health) float64 { return float64(h.ReadsWaiting) },
		"loads":         func(h health) float64 { return float64(h.LoadsWaiting) },
		"invalidations": func(h health) float64 { return float64(h.InvalidationsWaiting) },
		"events":        func(h health) float64 { return float64(h.EventsWaiting) },
	})...)
