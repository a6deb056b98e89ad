package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// api is the API of somebody else: it counts its calls, and refuses those over the limit of any window.
type api struct {
	*httptest.Server
	limit  int
	window time.Duration

	mu       sync.Mutex  // protects what follows
	arrivals []time.Time // of the calls in the last window
	calls    int
	refused  int
	rate     float64 // of every currency
}

func newAPI(t *testing.T, limit int, window time.Duration) *api {
	a := &api{limit: limit, window: window}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	currency := strings.TrimPrefix(r.URL.Path, "/rates/")
	rate, ok := a.call()
	switch {
	case !ok:
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case currency == "none":
		http.NotFound(w, r)
	default:
		writeJSON(w, Rate{Currency: currency, Rate: rate})
	}
}

// call returns the rate now, unless there were too many calls.
func (a *api) call() (rate float64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.calls++
	a.arrivals = slices.DeleteFunc(a.arrivals, func(at time.Time) bool { return now.Sub(at) >= a.window })
	if len(a.arrivals) >= a.limit {
		a.refused++
		return 0, false
	}
	a.arrivals = append(a.arrivals, now)
	return a.rate, true
}

// change sets the rate of every currency.
func (a *api) change(rate float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rate = rate
}

// seen returns how many calls there were, and how many over the limit.
func (a *api) seen() (calls, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls, a.refused
}
