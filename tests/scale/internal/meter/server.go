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

	Beats     float64       // calls of EVALSHA: at rest, heartbeats, or in a cluster the scripts of heartbeats
	BeatTime  time.Duration // inside them
	Published float64       // PUBLISHes, those of scripts included
	Sharded   float64       // SPUBLISHes likewise: at rest, heartbeats in a cluster
	Commands  float64       // all, those of scripts included

	In, Out float64 // bytes of the network, those between nodes of a cluster not included
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
	all, err := Window(ctx, []*Server{s}, f)
	if err != nil {
		return Used{}, err
	}
	return all[0], nil
}

// Window returns what each of the servers uses while f runs.
func Window(ctx context.Context, servers []*Server, f func() error) ([]Used, error) {
	before := make([]Used, len(servers))
	begin := make([]time.Time, len(servers))
	for i, s := range servers {
		var err error
		begin[i] = time.Now()
		if before[i], err = s.used(ctx); err != nil {
			return nil, err
		}
	}
	if err := f(); err != nil {
		return nil, err
	}
	out := make([]Used, len(servers))
	for i, s := range servers {
		after, err := s.used(ctx)
		if err != nil {
			return nil, err
		}
		out[i] = after.since(before[i])
		out[i].Time = time.Since(begin[i])
	}
	return out, nil
}

func (u Used) since(before Used) Used {
	return Used{
		CPU: u.CPU - before.CPU, Own: u.Own - before.Own, Beats: u.Beats - before.Beats, BeatTime: u.BeatTime - before.BeatTime,
		Published: u.Published - before.Published, Sharded: u.Sharded - before.Sharded, Commands: u.Commands - before.Commands,
		In: u.In - before.In, Out: u.Out - before.Out,
	}
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
	stats, err := infoOf(ctx, s.rdb, "stats")
	if err != nil {
		return Used{}, err
	}
	u := Used{
		CPU: seconds(number(cpu["used_cpu_user"]) + number(cpu["used_cpu_sys"])), Own: own,
		In: number(stats["total_net_input_bytes"]), Out: number(stats["total_net_output_bytes"]),
	}
	for name, text := range commands {
		one := fieldsOf(text, ",")
		calls := number(one["calls"])
		switch name {
		case "cmdstat_evalsha":
			u.Beats, u.BeatTime = calls, seconds(number(one["usec"])/1e6)
		case "cmdstat_publish":
			u.Published = calls
		case "cmdstat_spublish":
			u.Sharded = calls
		}
		if name != "cmdstat_info" { // our own
			u.Commands += calls
		}
	}
	return u, nil
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
