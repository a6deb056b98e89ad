package main

import (
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"strconv"

	"github.com/tandemcache/tandem/tiered"
)

var errBadRequest = errors.New("bad request")

func (c *catalogue) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products/{id}", answer(func(r *http.Request) (any, error) {
		id, err := productID(r)
		if err != nil {
			return nil, err
		}
		return c.product(r.Context(), id)
	}))
	mux.HandleFunc("PUT /products/{id}", answer(func(r *http.Request) (any, error) {
		var p Product
		id, err := productID(r)
		if err == nil {
			err = json.NewDecoder(r.Body).Decode(&p)
		}
		if err != nil || p.Category == "" {
			return nil, errors.Join(errBadRequest, err)
		}
		p.ID = id
		return nil, c.put(r.Context(), p)
	}))
	mux.HandleFunc("DELETE /products/{id}", answer(func(r *http.Request) (any, error) {
		id, err := productID(r)
		if err != nil {
			return nil, err
		}
		return nil, c.remove(r.Context(), id)
	}))
	mux.HandleFunc("GET /categories/{name}", answer(func(r *http.Request) (any, error) {
		return c.category(r.Context(), r.PathValue("name"))
	}))
	mux.HandleFunc("GET /stats", answer(func(*http.Request) (any, error) { return c.stats(), nil }))
	return mux
}

type stats struct {
	Source     int64        `json:"source"` // reads of the database
	Products   tiered.Stats `json:"products"`
	Categories tiered.Stats `json:"categories"`
	Ready      bool         `json:"ready"` // invalidations of the other instances are heard
}

func (c *catalogue) stats() stats {
	s := stats{Source: c.store.reads.Load(), Ready: true}
	if c.products != nil {
		s.Products, s.Categories = c.products.Stats(), c.categories.Stats()
		s.Ready = c.products.Health().LocalTrusted && c.categories.Health().LocalTrusted
	}
	return s
}

func productID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, errors.Join(errBadRequest, err)
	}
	return id, nil
}

// answer writes what f returns as JSON, or its error as a status.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		switch {
		case notFound(err):
			http.Error(w, "no such product", http.StatusNotFound)
		case errors.Is(err, errBadRequest):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			log.Print(err)
			http.Error(w, "try again", http.StatusInternalServerError)
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				log.Print(err)
			}
		}
	}
}
