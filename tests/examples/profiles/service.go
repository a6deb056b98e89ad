package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"slices"
	"time"

	"github.com/tandemcache/tandem/tiered"
)

// maxStaleness is how long a revoked permission may still be granted by another process, whatever breaks meanwhile. Normally
// it is gone within a millisecond or two.
const maxStaleness = 2 * time.Second

// service reads profiles through the cache, or, if it is nil, without.
type service struct {
	store *store
	users *tiered.Cache[User]
}

func (s *service) user(ctx context.Context, id string) (User, error) {
	if s.users == nil {
		return s.store.user(ctx, id)
	}
	return s.users.Get(ctx, id)
}

// change changes the database and then makes every process drop the profile, also after an error: the database may have
// committed, and not have been able to say so. It returns tiered.ErrPending if the change is made and Redis does not know yet.
func (s *service) change(ctx context.Context, id string, write func() error) error {
	err := write()
	if s.users != nil {
		err = cmp.Or(err, s.users.Invalidate(ctx, id))
	}
	return err
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		u, err := s.user(r.Context(), r.PathValue("id"))
		if err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, u)
	})
	mux.HandleFunc("GET /users/{id}/permissions/{name}", func(w http.ResponseWriter, r *http.Request) {
		u, err := s.user(r.Context(), r.PathValue("id"))
		switch {
		case err != nil:
			fail(w, err)
		case slices.Contains(u.Permissions, r.PathValue("name")):
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Error(w, "not permitted", http.StatusForbidden)
		}
	})
	mux.HandleFunc("PUT /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, u := r.PathValue("id"), User{}
		if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		changed(w, s.change(r.Context(), id, func() error { return s.store.rename(r.Context(), id, u.Name) }))
	})
	mux.HandleFunc("PUT /users/{id}/permissions/{name}", func(w http.ResponseWriter, r *http.Request) {
		id, name := r.PathValue("id"), r.PathValue("name")
		changed(w, s.change(r.Context(), id, func() error { return s.store.grant(r.Context(), id, name) }))
	})
	mux.HandleFunc("DELETE /users/{id}/permissions/{name}", func(w http.ResponseWriter, r *http.Request) {
		id, name := r.PathValue("id"), r.PathValue("name")
		changed(w, s.change(r.Context(), id, func() error { return s.store.revoke(r.Context(), id, name) }))
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.stats()) })
	return mux
}

type stats struct {
	Source int64        `json:"source"` // reads of the database
	Users  tiered.Stats `json:"users"`
	Ready  bool         `json:"ready"` // the changes that other processes make are heard
}

func (s *service) stats() stats {
	st := stats{Source: s.store.reads.Load(), Ready: true}
	if s.users != nil {
		st.Users, st.Ready = s.users.Stats(), s.users.Health().LocalTrusted
	}
	return st
}

func changed(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, tiered.ErrPending):
		log.Print(err)
		w.WriteHeader(http.StatusAccepted)
	default:
		fail(w, err)
	}
}

func fail(w http.ResponseWriter, err error) {
	if errors.Is(err, tiered.ErrNotFound) {
		http.Error(w, "no such user", http.StatusNotFound)
		return
	}
	log.Print(err)
	http.Error(w, "try again", http.StatusInternalServerError)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}
