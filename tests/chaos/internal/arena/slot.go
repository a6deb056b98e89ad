//go:build linux

package arena

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
)

// Slot is the place of one instance: its proxies stay, the instance may be killed and have a successor.
type Slot struct {
	Index   int
	Proxies []*proxy.Proxy // Single's, or one for each of the Cluster's nodes
	// Own says that its instances have a process of their own.
	Own bool

	arena *Arena

	mu     sync.Mutex // protects what follows
	worker *worker.Remote
	trust  []worker.Trust // of the current instance
	felt   worker.Felt    // by the current instance
	before worker.Felt    // by its predecessors
}

// Worker returns the current instance.
func (s *Slot) Worker() *worker.Remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worker
}

// start starts the slot's first instance, or a successor.
func (s *Slot) start(cfg worker.Config) error {
	a := s.arena
	cfg.Number, cfg.Slot = a.number(), s.Index
	switch {
	case a.Sentinels != nil:
		cfg.Redis.MasterName = masterName
		cfg.Redis.Sentinels, cfg.Redis.Route = a.Sentinels.addresses(s.Index)
	case a.Cluster != nil:
		cfg.Redis.Nodes, cfg.Redis.Route = a.Cluster.addresses(s.Proxies)
	default:
		cfg.Redis.Addr = s.Proxies[0].Addr()
	}
	s.mu.Lock()
	s.trust = nil
	s.before.Sessions += s.felt.Sessions
	s.before.Errors += s.felt.Errors
	s.felt = worker.Felt{}
	s.mu.Unlock()
	a.Checker.Join(cfg.Number, clock.Now())
	var w *worker.Remote
	if s.Own {
		var err error
		if w, err = worker.Spawn(cfg, s.receive); err != nil {
			a.Checker.Leave(cfg.Number)
			return err
		}
	} else {
		w = worker.Here(cfg, s.receive)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worker = w
	return nil
}

func (s *Slot) receive(r worker.Report) {
	s.mu.Lock()
	s.trust = append(s.trust, r.Trust...)
	s.felt = r.Felt
	s.mu.Unlock()
	s.arena.Checker.Add(r.Batch)
}

// Kill ends the instance's process at once.
func (s *Slot) Kill() error {
	w := s.Worker()
	if err := w.Kill(); err != nil {
		return err
	}
	s.arena.Checker.Leave(w.Config.Number)
	return nil
}

// Succeed starts an instance in place of one that was killed.
func (s *Slot) Succeed() error {
	cfg := s.arena.config
	cfg.Grace = grace
	return s.start(cfg)
}

func (s *Slot) close() error {
	w := s.Worker()
	if w == nil {
		return nil
	}
	err := w.Close()
	s.arena.Checker.Leave(w.Config.Number)
	if err != nil {
		return fmt.Errorf("slot %d: %w", s.Index, err)
	}
	return nil
}

// Set gives a rule to all its proxies.
func (s *Slot) Set(k proxy.Kind, d proxy.Direction, r proxy.Rule) {
	for _, p := range s.Proxies {
		p.Set(k, d, r)
	}
}

// Pass lets everything pass, to all servers.
func (s *Slot) Pass() error {
	var errs []error
	for _, p := range s.Proxies {
		errs = append(errs, p.Pass())
	}
	return errors.Join(errs...)
}

// trusted reports whether the instance trusts L1 and Redis now.
func (s *Slot) trusted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.trust) > 0 && s.trust[len(s.trust)-1].Trusted
}

// regained returns when trust was last regained after at; zero if it was not lost.
func (s *Slot) regained(at int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := int64(0)
	for _, t := range s.trust {
		if t.Trusted && t.At > at {
			last = t.At
		}
	}
	return last
}

func (s *Slot) feltSoFar() worker.Felt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return worker.Felt{Sessions: s.before.Sessions + s.felt.Sessions, Errors: s.before.Errors + s.felt.Errors}
}
