// Package redisserver runs real redis-server processes for tests: one that is
// killed, stopped, restarted and paused tells what a fake in the same process
// cannot.
//
// [Run] is for tests: it skips where there is no redis-server, or fails there if
// the environment says that one is required. [Start] is for programs.
//
//	srv := redisserver.Run(t, redisserver.Options{})
//	rdb := srv.Client()
//	err := srv.Kill()    // SIGKILL; connections are refused from here on
//	err = srv.Restart()  // same port, same directory
//	err = srv.Pause()    // SIGSTOP; connections are accepted and never answered
//	err = srv.Resume()
//
// [RunCluster] and [StartCluster] do the same for a Redis Cluster, whose nodes are such servers:
//
//	cluster := redisserver.RunCluster(t, redisserver.ClusterOptions{})
//	rdb := cluster.Client()
//	master, err := cluster.Master(slot)
//	err = cluster.Failover(cluster.Replicas(master)[0])
//	err = cluster.Migrate(slot, cluster.Nodes()[1])
//
// A server listens on a free port of 127.0.0.1 that no other server of this
// package is given, in this process or another, until it is closed: a server that
// is down for a while finds its port free again. It never outlives the process
// that started it.
package redisserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/port"
)

const (
	binary = "redis-server"

	startTimeout = 30 * time.Second // from exec to the first answer; a busy machine takes seconds
	stopTimeout  = 15 * time.Second // above the 10 s that Redis itself may wait for its replicas
	pauseTimeout = 10 * time.Second // from SIGSTOP to the stop

	// startAttempts bounds how often Start tries another port when a foreign
	// program takes the one it has chosen.
	startAttempts = 5
)

var (
	// ErrClosed is returned by the methods of a Server that was closed.
	ErrClosed = errors.New("redisserver: server closed")

	// ErrNotRunning is returned by Pause and Resume of a server that is down.
	ErrNotRunning = errors.New("redisserver: server not running")

	// ErrNoBinary is returned by Start if there is no redis-server on PATH.
	ErrNoBinary = errors.New("redisserver: no redis-server on PATH")
)

// Options configure a server. The zero value is a server that keeps nothing on disk.
type Options struct {
	// Args are appended to the command line, as in {"--maxmemory", "2mb"}. They win
	// over what the package sets: no snapshots (--save ""), no append-only file, the
	// address and the directory. A server that asks for a password cannot be started.
	Args []string

	// Dir is the working directory, where Redis keeps its files. It must exist and is
	// left as it is. Empty means a temporary directory, removed by Close.
	Dir string

	// Config, if not empty, is written to a file in Dir that the server is started with and may rewrite. A Sentinel, which
	// is a server with "--sentinel" in Args, cannot do without.
	Config string

	// LogLevel is debug, verbose, notice or warning. Empty means notice.
	LogLevel string
}

// Server is a redis-server process on a port of its own. It may be used by several
// goroutines at once. Whoever started it must close it.
type Server struct {
	path    string // of the binary
	opts    Options
	dir     string
	ownsDir bool
	port    *port.Port
	version string // set by Start
	log     *tail

	life   sync.Mutex // serialises what starts, stops and signals the process; protects proc and closed
	proc   *process   // nil before the first start; may have ended
	closed bool

	mu      sync.Mutex // protects clients
	clients []*redis.Client
}

// Start starts a server and returns once it answers. The caller must call Close.
func Start(opts Options) (*Server, error) {
	path, err := lookPath()
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, opts: opts, dir: opts.Dir, log: new(tail)}
	if s.dir == "" {
		s.ownsDir = true
		if s.dir, err = os.MkdirTemp("", "redisserver-"); err != nil {
			return nil, fmt.Errorf("redisserver: %w", err)
		}
	}
	if opts.Config != "" {
		if err := os.WriteFile(s.configFile(), []byte(opts.Config), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("redisserver: %w", err), s.Close())
		}
	}
	if err := s.startAnywhere(port.Reserve); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// startAnywhere starts the process on the first port given by reserve that nobody takes
// in the meantime.
func (s *Server) startAnywhere(reserve func() (*port.Port, error)) error {
	s.life.Lock()
	defer s.life.Unlock()
	for attempt := 1; ; attempt++ {
		var err error
		if s.port, err = reserve(); err != nil {
			return err
		}
		err = s.startLocked()
		if err == nil {
			return nil
		}
		if !s.log.contains("Address already in use") || attempt == startAttempts {
			return err
		}
		if err := s.port.Release(); err != nil {
			return err
		}
		s.log.reset()
	}
}

// startLocked starts the process on s.port and waits until it answers. s.life must be held.
func (s *Server) startLocked() error {
	proc, err := startProcess(s.path, s.args(), s.dir, s.log)
	if err != nil {
		return err
	}
	version, err := proc.waitReady(s.Addr(), startTimeout)
	if err != nil {
		err = errors.Join(err, proc.kill())
		return fmt.Errorf("%w\nlast output of the server:\n%s", err, s.Output())
	}
	s.proc = proc
	if s.version == "" {
		s.version = version
	}
	return nil
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "redis.conf") }

func (s *Server) args() []string {
	level := s.opts.LogLevel
	if level == "" {
		level = "notice"
	}
	var args []string
	if s.opts.Config != "" {
		args = append(args, s.configFile()) // before every option
	}
	args = append(args,
		"--bind", port.Loopback,
		"--port", strconv.Itoa(s.port.Number),
		"--dir", s.dir,
		"--daemonize", "no",
		"--save", "",
		"--appendonly", "no",
		"--loglevel", level,
	)
	return append(args, s.opts.Args...)
}
