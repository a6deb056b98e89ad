package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/tandemcache/tandem/tiered"
)

// service answers from the cache, or, if it is nil, with a call each.
type service struct {
	client   *client
	rates    *tiered.Cache[Rate]
	patience time.Duration
}

func (s *service) rate(ctx context.Context, currency string) (Rate, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	if s.rates == nil {
		return s.client.rate(ctx, currency)
	}
	return s.rates.Get(ctx, currency)
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rates/{currency}", func(w http.ResponseWriter, r *http.Request) {
		rate, err := s.rate(r.Context(), r.PathValue("currency"))
		switch {
		case err == nil:
			writeJSON(w, rate)
		case errors.Is(err, tiered.ErrNotFound):
			http.Error(w, "no such currency", http.StatusNotFound)
		case errors.Is(err, context.DeadlineExceeded): // also tiered.ErrLoadTimeout
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the API allows no more calls now", http.StatusServiceUnavailable)
		default:
			log.Print(err)
			http.Error(w, "the API has no answer", http.StatusBadGateway)
		}
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.stats()) })
	return mux
}

type stats struct {
	Source int64        `json:"source"` // calls of the API
	Rates  tiered.Stats `json:"rates"`
	Ready  bool         `json:"ready"` // Redis is there
}

func (s *service) stats() stats {
	st := stats{Source: s.client.calls.Load(), Ready: true}
	if s.rates != nil {
		h := s.rates.Health()
		st.Rates, st.Ready = s.rates.Stats(), h.LocalTrusted && h.RemoteTrusted
	}
	return st
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}
