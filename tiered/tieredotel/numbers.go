package tieredotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tandemcache/tandem/tiered"
)

type (
	stats  = tiered.Stats
	health = tiered.Health
)

// number is what an observable instrument shows of a cache: of its Stats or of its Health.
type number struct {
	name, unit, help string
	attr             attribute.KeyValue // beside the cache's name; may be zero
	gauge            bool               // and not a counter
	of               func(stats, health) float64
}

func count(name, unit, help string, of func(stats) uint64) number {
	return number{name: name, unit: unit, help: help, of: func(s stats, _ health) float64 { return float64(of(s)) }}
}

func level(name, unit, help string, of func(stats, health) float64) number {
	return number{name: name, unit: unit, help: help, gauge: true, of: of}
}

func state(name, help string, of func(health) bool) number {
	return level(name, "1", help, func(_ stats, h health) float64 {
		if of(h) {
			return 1
		}
		return 0
	})
}

func (n number) with(key, value string) number {
	n.attr = attribute.String(key, value)
	return n
}

func queue(name string, of func(health) int) number {
	return level("tandem.queue.size", "{item}", "What waits or is under way.",
		func(_ stats, h health) float64 { return float64(of(h)) }).with("tandem.queue", name)
}

const (
	hits, hitsHelp     = "tandem.hits", "Reads that a tier answered, not found included."
	misses, missesHelp = "tandem.misses", "Reads that a tier did not answer."
	fills, fillsHelp   = "tandem.fills", "Loaded values by what became of them."
)

// numbers of one name follow each other.
var numbers = []number{
	count(hits, "{read}", hitsHelp, func(s stats) uint64 { return s.LocalHits }).with("tandem.tier", "local"),
	count(hits, "{read}", hitsHelp, func(s stats) uint64 { return s.RemoteHits }).with("tandem.tier", "remote"),
	count(misses, "{read}", missesHelp, func(s stats) uint64 { return s.LocalMisses }).with("tandem.tier", "local"),
	count(misses, "{read}", missesHelp, func(s stats) uint64 { return s.RemoteMisses }).with("tandem.tier", "remote"),
	count(fills, "{value}", fillsHelp, func(s stats) uint64 { return s.Fills }).with("tandem.result", "stored"),
	count(fills, "{value}", fillsHelp, func(s stats) uint64 { return s.Refused }).with("tandem.result", "refused"),
	count(fills, "{value}", fillsHelp, func(s stats) uint64 { return s.Unstored }).with("tandem.result", "unstored"),
	count("tandem.joined", "{read}", "Gets that shared a read or load already under way.", func(s stats) uint64 { return s.Joined }),
	count("tandem.loads", "{load}", "Calls of a loader.", func(s stats) uint64 { return s.Loads }),
	count("tandem.load.errors", "{load}", "Loads that failed, not found not included.", func(s stats) uint64 { return s.LoadErrors }),
	count("tandem.load.not_found", "{load}", "Loads that found that the key does not exist.", func(s stats) uint64 { return s.NotFound }),
	{
		name: "tandem.load.time", unit: "s", help: "Time that loads took, those of the same time added up.",
		of: func(s stats, _ health) float64 { return s.LoadTime.Seconds() },
	},
	count("tandem.refreshes", "{load}", "Loads in the background of values past RefreshAfter.", func(s stats) uint64 { return s.Refreshes }),
	count("tandem.refresh.errors", "{load}", "Refreshes that failed.", func(s stats) uint64 { return s.RefreshErrors }),
	count("tandem.refresh.unchanged", "{load}", "Refreshes that brought what was there.", func(s stats) uint64 { return s.RefreshUnchanged }),
	count("tandem.refresh.skipped", "{load}", "Refreshes put off because as many as may run at once did.", func(s stats) uint64 { return s.RefreshSkipped }),
	count("tandem.stale", "{read}", "Gets answered with an expired value, because the load failed or took long.", func(s stats) uint64 { return s.Stale }),
	count("tandem.lease.waits", "{wait}", "Times that a load waited for another instance's.", func(s stats) uint64 { return s.LeaseWaits }),
	count("tandem.remote.bad_entries", "{entry}", "Entries in Redis that could not be used.", func(s stats) uint64 { return s.BadEntries }),
	count("tandem.remote.read", "By", "Bytes of entries that Redis has sent.", func(s stats) uint64 { return s.RemoteBytesRead }),
	count("tandem.remote.written", "By", "Bytes of entries that Redis has stored.", func(s stats) uint64 { return s.RemoteBytesWritten }),
	count("tandem.sets", "{set}", "Sets sent to Redis.", func(s stats) uint64 { return s.Sets }),
	count("tandem.invalidation.sent", "{key}", "Keys that this instance invalidated.", func(s stats) uint64 { return s.Invalidated }),
	count("tandem.invalidation.received", "{key}", "Keys whose invalidation was heard.", func(s stats) uint64 { return s.Received }),
	count("tandem.invalidation.tracked", "{key}", "Keys dropped from L1 because Redis had another value or none.", func(s stats) uint64 { return s.Tracked }),
	count("tandem.invalidation.unreadable", "{message}", "Messages that could not be read; each drops L1.", func(s stats) uint64 { return s.Unreadable }),
	count("tandem.invalidation.replayed", "{key}", "Keys whose invalidation was repeated because Redis may have lost it.", func(s stats) uint64 { return s.Replayed }),
	count("tandem.sessions", "{session}", "Subscriptions that began; each drops L1.", func(s stats) uint64 { return s.Sessions }),
	{
		name: "tandem.local.untrusted", unit: "s", help: "Time in which L1 had no proof that it hears invalidations.",
		of: func(s stats, _ health) float64 { return s.Untrusted.Seconds() },
	},
	count("tandem.redis.commands", "{command}", "Commands sent to Redis, heartbeats not included.", func(s stats) uint64 { return s.Commands }),
	count("tandem.redis.errors", "{command}", "Commands that failed.", func(s stats) uint64 { return s.RedisErrors }),
	count("tandem.redis.server_changes", "{change}", "Times that Redis may have lost what it had confirmed.", func(s stats) uint64 { return s.ServerChanges }),
	count("tandem.breaker.opened", "{time}", "Times that reads were kept from a Redis that did not answer them.", func(s stats) uint64 { return s.BreakerOpened }),
	count("tandem.audit.entries", "{entry}", "Entries of L1 that an audit has compared with what Redis has.", func(s stats) uint64 { return s.Audited }),
	count("tandem.audit.diverged", "{entry}", "Entries of L1 that were served for longer than MaxStaleness although Redis had a later value.", func(s stats) uint64 { return s.Diverged }),
	count("tandem.unobserved", "{event}", "Events that the Observer was too slow for.", func(s stats) uint64 { return s.Unobserved }),
	level("tandem.local.size", "By", "Estimated heap of L1.", func(s stats, _ health) float64 { return float64(s.LocalBytes) }),
	level("tandem.local.limit", "By", "Budget of L1.", func(s stats, _ health) float64 { return float64(s.LocalLimit) }),

	state("tandem.ready", "Whether the cache has been connected.", func(h health) bool { return h.Ready }),
	state("tandem.closed", "Whether the cache is closed.", func(h health) bool { return h.Closed }),
	state("tandem.local.trusted", "Whether L1 has a proof that it hears invalidations.", func(h health) bool { return h.LocalTrusted }),
	state("tandem.remote.trusted", "Whether Redis took a heartbeat within MaxStaleness.", func(h health) bool { return h.RemoteTrusted }),
	state("tandem.tracking", "Whether Redis tells of every change.", func(h health) bool { return h.Tracking }),
	state("tandem.breaker.open", "Whether reads are kept from Redis.", func(h health) bool { return h.BreakerOpen }),
	state("tandem.redis.failing", "Whether the last heartbeat failed.", func(h health) bool { return h.RedisError != nil }),
	level("tandem.proof.age", "s", "How long ago the instance last heard itself.", func(_ stats, h health) float64 { return h.ProofAge.Seconds() }),
	level("tandem.pending.keys", "{key}", "Keys whose invalidation Redis has not confirmed.", func(_ stats, h health) float64 { return float64(h.PendingKeys) }),
	state("tandem.pending.all", "Whether the invalidation of everything is not confirmed.", func(h health) bool { return h.PendingAll }),
	queue("flights", func(h health) int { return h.Flights }),
	queue("reads", func(h health) int { return h.ReadsWaiting }),
	queue("loads", func(h health) int { return h.LoadsWaiting }),
	queue("invalidations", func(h health) int { return h.InvalidationsWaiting }),
	queue("events", func(h health) int { return h.EventsWaiting }),
}

// register makes an instrument for each number, and has them read caches when the provider asks.
func register(m metric.Meter, caches func() []Cache) (metric.Registration, error) {
	byName := map[string]metric.Float64Observable{}
	var all []metric.Observable
	var errs []error
	for _, n := range numbers {
		if byName[n.name] != nil {
			continue
		}
		var i metric.Float64Observable
		var err error
		if n.gauge {
			i, err = m.Float64ObservableGauge(n.name, metric.WithUnit(n.unit), metric.WithDescription(n.help))
		} else {
			i, err = m.Float64ObservableCounter(n.name, metric.WithUnit(n.unit), metric.WithDescription(n.help))
		}
		byName[n.name], errs = i, append(errs, err)
		all = append(all, i)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, c := range caches() {
			s, h := c.Stats(), c.Health()
			for _, n := range numbers {
				attrs := []attribute.KeyValue{cacheName(c.Name())}
				if n.attr.Valid() {
					attrs = append(attrs, n.attr)
				}
				o.ObserveFloat64(byName[n.name], n.of(s, h), metric.WithAttributes(attrs...))
			}
		}
		return nil
	}, all...)
}
