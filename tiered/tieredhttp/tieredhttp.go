// Package tieredhttp shows over HTTP how caches stand.
//
//	mux.Handle("GET /readyz", tieredhttp.Ready(10*time.Second, users, orders))
//	mux.Handle("GET /healthz/caches", tieredhttp.Health(users, orders))
//
// Both answer 200 or 503, and the same JSON: for each cache what tiered.Health says. They ask nobody and wait for nothing, so
// they may be asked as often as one likes.
//
// Ready is for a load balancer, and Health is not: a cache without Redis loads from the source and stays right, so an instance
// without Redis serves, and one that is taken out of service with all the others at once does not. Health is for whoever is to
// look after it.
package tieredhttp

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tandemcache/tandem/tiered"
)

// Cache is what the handlers ask: a *tiered.Cache of any type.
type Cache interface {
	Name() string
	Health() tiered.Health
}

// Ready answers 200 once every cache has been connected, and for good: an outage of Redis after that is no reason to take the
// instance out of service. Where Redis is away from the start it answers 200 after patience, counted from this call: the
// service then starts without. Zero patience waits for Redis for as long as it takes. A closed cache is never ready.
func Ready(patience time.Duration, caches ...Cache) http.Handler {
	began := time.Now()
	return handler(caches, func(h tiered.Health) bool {
		return !h.Closed && (h.Ready || (patience > 0 && time.Since(began) >= patience))
	})
}

// Health answers 200 while nothing is wrong with any cache: L1 and Redis are trusted, the last heartbeat succeeded, the breaker
// is closed, and no invalidation is pending. It is for alarms, not for a load balancer.
func Health(caches ...Cache) http.Handler {
	return handler(caches, func(h tiered.Health) bool {
		return !h.Closed && h.LocalTrusted && h.RemoteTrusted && h.RedisError == nil && !h.BreakerOpen &&
			h.PendingKeys == 0 && !h.PendingAll
	})
}

// Answer is the JSON of both handlers.
type Answer struct {
	OK     bool             `json:"ok"`
	Caches map[string]State `json:"caches"` // by name; of caches with one name, one that is not OK
}

// State is what an Answer says of a cache: tiered.Health, whose comments hold.
type State struct {
	OK             bool   `json:"ok"` // by what was asked
	Ready          bool   `json:"ready"`
	Closed         bool   `json:"closed"`
	LocalTrusted   bool   `json:"local_trusted"`
	RemoteTrusted  bool   `json:"remote_trusted"`
	Tracking       bool   `json:"tracking"`
	BreakerOpen    bool   `json:"breaker_open"`
	ProofAgeMillis int64  `json:"proof_age_ms"`
	RedisError     string `json:"redis_error,omitempty"`
	PendingKeys    int    `json:"pending_keys"`
	PendingAll     bool   `json:"pending_all"`

	Flights              int `json:"flights"`
	ReadsWaiting         int `json:"reads_waiting"`
	LoadsWaiting         int `json:"loads_waiting"`
	InvalidationsWaiting int `json:"invalidations_waiting"`
	EventsWaiting        int `json:"events_waiting"`
}

func handler(caches []Cache, ok func(tiered.Health) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		answer := Answer{OK: true, Caches: make(map[string]State, len(caches))}
		for _, c := range caches {
			h := c.Health()
			s := stateOf(h)
			s.OK = ok(h)
			answer.OK = answer.OK && s.OK
			if old, twice := answer.Caches[c.Name()]; !twice || old.OK {
				answer.Caches[c.Name()] = s
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !answer.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // whoever has asked may be gone
	})
}

func stateOf(h tiered.Health) State {
	s := State{
		Ready: h.Ready, Closed: h.Closed, LocalTrusted: h.LocalTrusted, RemoteTrusted: h.RemoteTrusted,
		Tracking: h.Tracking, BreakerOpen: h.BreakerOpen, ProofAgeMillis: h.ProofAge.Milliseconds(),
		PendingKeys: h.PendingKeys, PendingAll: h.PendingAll,
		Flights: h.Flights, ReadsWaiting: h.ReadsWaiting, LoadsWaiting: h.LoadsWaiting,
		InvalidationsWaiting: h.InvalidationsWaiting, EventsWaiting: h.EventsWaiting,
	}
	if h.RedisError != nil {
		s.RedisError = h.RedisError.Error()
	}
	return s
}
