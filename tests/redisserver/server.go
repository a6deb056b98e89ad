package redisserver

import (
	"errors"
	"os"

	"github.com/redis/go-redis/v9"
)

// Addr returns the server's address, host and port. It stays the same until Close.
func (s *Server) Addr() string { return s.port.Addr() }

// Version returns the version that the server reported, such as "7.0.15".
func (s *Server) Version() string { return s.version }

// Output returns the last lines that the server has logged, over all its starts.
func (s *Server) Output() string { return s.log.String() }

// Client returns a new client with go-redis' default options. Close closes it, if
// the caller has not.
func (s *Server) Client() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, rdb)
	return rdb
}

// Kill ends the process with SIGKILL, as a crash would, and returns when it is gone.
// It does nothing if the server is down.
func (s *Server) Kill() error { return s.withProcess((*process).kill) }

// Stop ends the process in an orderly way: Redis saves what it is configured to save.
// A paused server is resumed first. Stop does nothing if the server is down. The port
// and the directory stay reserved for Restart.
func (s *Server) Stop() error { return s.withProcess((*process).stop) }

// Restart starts the server again on the same port and in the same directory, after
// stopping it, as Stop does, if it runs. It returns once the server answers.
func (s *Server) Restart() error {
	return s.withProcess(func(old *process) error {
		if err := old.stop(); err != nil {
			return err
		}
		return s.startLocked()
	})
}

// Pause freezes the process with SIGSTOP and returns when it stands still: the kernel
// goes on accepting connections and bytes for it, and nothing is answered.
func (s *Server) Pause() error { return s.withProcess((*process).pause) }

// Resume lets a paused process go on. It first answers what came in while it was paused.
func (s *Server) Resume() error { return s.withProcess((*process).resume) }

// Close kills the process, closes the clients that Client made, gives back the port,
// and removes the directory if the package made it. Closing twice is allowed.
func (s *Server) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.closeClients()
	var errs []error
	if s.proc != nil {
		errs = append(errs, s.proc.kill())
	}
	if s.port != nil {
		errs = append(errs, s.port.Release())
	}
	if s.ownsDir {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func (s *Server) closeClients() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rdb := range s.clients {
		_ = rdb.Close() // the caller may have closed it, which is no failure of ours
	}
	s.clients = nil
}

// withProcess calls f with the current process, which may have ended, unless the
// server is closed. It holds s.life meanwhile.
func (s *Server) withProcess(f func(*process) error) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return ErrClosed
	}
	return f(s.proc)
}
