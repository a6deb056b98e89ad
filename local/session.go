package local

import "sync/atomic"

// session is what entries belong to: the time from one logical flush of a partition to the next. It owns the proof of its own
// time, so that the proof of a later session, or of another partition's, can never vouch for an entry of this one.
//
// An entry points to its session, which knows all that a hit asks: so no hit computes its key's partition.
type session struct {
	// proof is the latest time, by mono, of which it is known that every invalidation older than it has been applied.
	// It only grows. Written by prove, read at every hit.
	proof atomic.Int64
	// over says that another session has taken its place, for good. It is what a hit reads instead of comparing with
	// home.current: it lies beside proof, and saves going to home.
	over atomic.Bool
	home *partition
}

func newSession(home *partition, proof int64) *session {
	s := &session{home: home}
	s.proof.Store(proof)
	return s
}

// prove raises the proof to at; a late or repeated report of an earlier time changes nothing.
func (s *session) prove(at int64) {
	for {
		old := s.proof.Load()
		if at <= old || s.proof.CompareAndSwap(old, at) {
			return
		}
	}
}
