//go:build linux

package meter

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server reads what a redis-server on this machine has used.
type Server struct {
	rdb *redis.Client
	pid int
}

// Used is what a server has used: since its start, or in a window.
type Used struct {
	Time time.Duration // the window's length
	CPU  time.Duration // user and system, as the server says
	Own  time.Duration // of its main thread, as the kernel says

	Beats     float64       // calls of EVALSHA: at rest, heartbeats
	BeatTime  time.Duration // inside them
	Published float64       // PUBLISHes, those of scripts included
}

// Clients are the connections of a server.
type Clients struct {
	Count   int
	Bytes   float64 // of all
	Waiting float64 // in the output buffer of the one with the most
}

// NewServer returns a Server for the one that rdb leads to.
func NewServer(ctx context.Context, rdb *redis.Client) (*Server, error) {
	info, err := infoOf(ctx, rdb, "server")
	if err != nil {
		return nil, err
	}
	return &Server{rdb: rdb, pid: int(number(info["process_id"]))}, nil
}

// Window returns what is used while f runs.
func (s *Server) Window(ctx context.Context, f func() error) (Used, error) {
	begin := time.Now()
	before, err := s.used(ctx)
	if err != nil {
		return Used{}, err
	}
	if err := f(); err != nil {
		return Used{}, err
	}
	u, err := s.used(ctx)
	u.Time = time.Since(begin)
	u.CPU -= before.CPU
	u.Own -= before.Own
	u.Beats -= before.Beats
	u.BeatTime -= before.BeatTime
	u.Published -= before.Published
	return u, err
}

func (s *Server) used(ctx context.Context) (Used, error) {
	cpu, err := infoOf(ctx, s.rdb, "cpu")
	if err != nil {
		return Used{}, err
	}
	own, err := processCPU(s.pid)
	if err != nil {
		return Used{}, err
	}
	commands, err := infoOf(ctx, s.rdb, "commandstats")
	if err != nil {
		return Used{}, err
	}
	beats, publish := fieldsOf(commands["cmdstat_evalsha"], ","), fieldsOf(commands["cmdstat_publish"], ",")
	return Used{
		CPU: seconds(number(cpu["used_cpu_user"]) + number(cpu["used_cpu_sys"])), Own: own,
		Beats: number(beats["calls"]), BeatTime: seconds(number(beats["usec"]) / 1e6),
		Published: number(publish["calls"]),
	}, nil
}

// Memory returns the bytes that the server has allocated, for data and clients.
func (s *Server) Memory(ctx context.Context) (float64, error) {
	info, err := infoOf(ctx, s.rdb, "memory")
	return number(info["used_memory"]), err
}

// Clients returns its connections.
func (s *Server) Clients(ctx context.Context) (Clients, error) {
	list, err := s.rdb.ClientList(ctx).Result()
	if err != nil {
		return Clients{}, fmt.Errorf("CLIENT LIST: %w", err)
	}
	var c Clients
	for line := range strings.Lines(list) {
		client := fieldsOf(strings.TrimSpace(line), " ")
		c.Count++
		c.Bytes += number(client["tot-mem"])
		c.Waiting = max(c.Waiting, number(client["omem"]))
	}
	return c, nil
}

// Keys returns how many keys it holds, expired ones that it has not removed yet included.
func (s *Server) Keys(ctx context.Context) (float64, error) {
	n, err := s.rdb.DBSize(ctx).Result()
	return float64(n), err
}

func infoOf(ctx context.Context, rdb *redis.Client, section string) (map[string]string, error) {
	text, err := rdb.Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("INFO %s: %w", section, err)
	}
	out := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out, nil
}

// fieldsOf reads name=value pairs.
func fieldsOf(text, separator string) map[string]string {
	out := make(map[string]string)
	for pair := range strings.SplitSeq(text, separator) {
		if name, value, ok := strings.Cut(pair, "="); ok {
			out[name] = value
		}
	}
	return out
}

// number returns 0 for what is not one: a command that was never called has no statistics.
func number(text string) float64 {
	n, _ := strconv.ParseFloat(text, 64)
	return n
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
