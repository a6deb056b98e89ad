package pubsub

import (
	"context"
	"slices"
	"sync"
)

// registers are the registries in which this instance is. Its methods may be called concurrently.
//
// An instance is its own witness that a registry has not been lost: it has written a random word there, and knows since when.
// While that word is there, whatever others have written since is there as well. So a registry that was evicted, deleted or
// began anew is noticed by everybody who is in it, and no clock of Redis says how old it is.
type registers struct {
	mu     sync.Mutex // protects what follows
	of     map[string]register
	server string // the replication id of the server that took the last heartbeat
	good   bool   // and that one has succeeded
}

type register struct {
	word string
	// since is when, by mono, the reply of the heartbeat came that wrote word, or the first reply of a server that has taken
	// over and has word from the one before, as perhaps it has not everybody's.
	since int64
}

// registriesOf returns the registries of members, each once.
func registriesOf(members []*member) []string {
	var keys []string
	for _, m := range members {
		if m.Registry != "" && !slices.Contains(keys, m.Registry) {
			keys = append(keys, m.Registry)
		}
	}
	return keys
}

// note takes a heartbeat's outcome.
//
// One that has failed may have written its word all the same, or may do so later. Then the word here is not the one there, and
// the next heartbeat writes another.
func (r *registers) note(reply beatReply, report BeatReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good = report.Err == nil; !r.good {
		return
	}
	r.server = reply.server.id
	if report.Moved {
		for key, one := range r.of {
			r.of[key] = register{word: one.word, since: report.Received}
		}
	}
	for _, key := range reply.entered {
		if r.of == nil {
			r.of = make(map[string]register)
		}
		r.of[key] = register{word: reply.word, since: report.Received}
	}
}

// find returns what this instance has written last; false means that it has not.
func (r *registers) find(key string) (register, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.of[key]
	return one, ok
}

// current is find, and the server; false also means that the last heartbeat has failed.
func (r *registers) current(key string) (one register, server string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok = r.of[key]
	return one, r.server, ok && r.good
}

// doubt is for a heartbeat that another server has to take.
func (r *registers) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good = false
}

func (r *registers) remove(key string) (removed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, removed = r.of[key]
	delete(r.of, key)
	return removed && r.good
}

// Resign takes this instance out of a registry whose members here have all left and serve nothing any more, so that nobody
// waits for it. It waits for ctx at most; what it cannot do costs others one wait for the topic's Bound.
func (b *Bus) Resign(ctx context.Context, registry string) {
	select {
	case <-b.beating: // one that is on its way could register it again
		defer func() { b.beating <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	members, _ := b.members()
	if slices.Contains(registriesOf(members), registry) || !b.registers.remove(registry) {
		return
	}
	_ = b.client.HDel(ctx, registry, b.id).Err() // the best that can be done
}
