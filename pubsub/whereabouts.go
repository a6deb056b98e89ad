package pubsub

import "sync"

// whereabouts are to which servers connections lead. Its methods may be called concurrently.
type whereabouts struct {
	mu sync.Mutex // protects what follows
	// server is the replication id of the one that takes the heartbeats, "" if it does not tell.
	server string
	known  bool
	// led are the servers to which connections led that were made while that was not known.
	led map[string]struct{}
}

func (w *whereabouts) get() (server string, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.server, w.known
}

// reached notes where a connection leads. False means to another server than the heartbeat's.
func (w *whereabouts) reached(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known {
		return id == w.server
	}
	if w.led == nil {
		w.led = make(map[string]struct{})
	}
	w.led[id] = struct{}{}
	return true
}

// doubt forgets the server and, as every connection is about to be closed, where they led.
func (w *whereabouts) doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server, w.known, w.led = "", false, nil
}

// strayed reports whether a connection led elsewhere than to id.
func (w *whereabouts) strayed(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.strayedLocked(id)
}

func (w *whereabouts) strayedLocked(id string) bool {
	for to := range w.led {
		if to != id {
			return true
		}
	}
	return false
}

// settle makes id the server, unless a connection led elsewhere.
func (w *whereabouts) settle(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.strayedLocked(id) {
		return false
	}
	w.server, w.known, w.led = id, true, nil
	return true
}
