package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/port"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/inspect"
)

type user struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// service is a running instance of the cache users.
type service struct {
	*tiered.Cache[user]

	loads atomic.Int64
	hold  chan struct{} // if not nil, loads wait for it
}

func newService(t *testing.T, addr string, hold chan struct{}) *service {
	t.Helper()
	return newServiceOn(t, redis.NewClient(&redis.Options{Addr: addr}), "users", hold)
}

func newServiceOn(t *testing.T, rdb redis.UniversalClient, cache string, hold chan struct{}) *service {
	t.Helper()
	s := &service{hold: hold}
	var err error
	s.Cache, err = tiered.New(rdb, cache, tiered.Options[user]{
		RedisTimeout: patience, MaxStaleness: 10 * time.Second,
		Tags: func(id string, _ user) []string { return []string{"user " + id, "everybody"} },
		Load: func(ctx context.Context, id string) (user, error) {
			s.loads.Add(1)
			if s.hold != nil {
				select {
				case <-s.hold:
				case <-ctx.Done():
					return user{}, ctx.Err()
				}
			}
			if id == "nobody" {
				return user{}, tiered.ErrNotFound
			}
			return user{id, "user " + id}, nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, rdb.Close())
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, s.Ready(ctx))
	return s
}

func TestGetShowsAnEntry(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := newService(t, m.Addr(), nil)
	_, err := s.Get(t.Context(), "42")
	require.NoError(t, err)

	got := tandem(t, "", "get", "-redis", m.Addr(), "users", "42")
	require.Equal(t, exitOK, got.code, got.errOut)
	for _, want := range []string{"tandem:{users}:k:42\n", "hash", "live", "holds", "the current one", "expires      in ", `"name": "user 42"`} {
		require.Contains(t, got.out, want)
	}

	full := tandem(t, "", "get", "-redis", m.Addr(), "tandem:{users}:k:42", "-json")
	require.Equal(t, exitOK, full.code, full.errOut)
	var e inspect.Entry
	require.NoError(t, json.Unmarshal([]byte(full.out), &e))
	require.Equal(t, "users", e.Cache)
	require.Equal(t, "42", e.Key)
	require.Equal(t, "hash", e.Type)
	require.Positive(t, e.TTL)
	require.Len(t, e.Schemas, 1)
	// The default TTL, less a tenth of it at most.
	require.InDelta(t, (570 * time.Second).Milliseconds(), e.Schemas[0].ExpiresIn, float64((30*time.Second + patience).Milliseconds()))
	require.Equal(t, inspect.StateLive, e.Schemas[0].State)
	require.True(t, e.Schemas[0].ChecksumOK)
	require.True(t, e.Schemas[0].EpochCurrent)
	require.JSONEq(t, `{"id":"42","name":"user 42"}`, string(e.Schemas[0].Value.JSON))
	require.Nil(t, e.Schemas[0].Lease)
	require.Equal(t, []*inspect.Tag{{Name: "everybody"}, {Name: "user 42"}}, e.Schemas[0].Tags)
	require.Contains(t, got.out, "tags         everybody, user 42\n")
	require.Empty(t, e.Foreign)

	require.NoError(t, s.InvalidateTags(t.Context(), "user 42"))
	got = tandem(t, "", "get", "-redis", m.Addr(), "users", "42")
	require.Contains(t, got.out, "state        invalidated, by a tag\n")
	require.Contains(t, got.out, "tags         everybody, user 42 (invalidated)\n")

	require.NoError(t, s.InvalidateAll(t.Context()))
	got = tandem(t, "", "get", "-redis", m.Addr(), "users", "42")
	require.Contains(t, got.out, "invalidated, with the whole cache")
	require.Contains(t, got.out, "not the current one")
}

func TestGetShowsALease(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	hold := make(chan struct{})
	s := newService(t, m.Addr(), hold)
	loaded := make(chan error, 1)
	go func() {
		_, err := s.Get(t.Context(), "42")
		loaded <- err
	}()
	eventually(t, func() bool { return s.loads.Load() == 1 })
	got := tandem(t, "", "get", "-redis", m.Addr(), "users", "42")
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Contains(t, got.out, "no value")
	require.Contains(t, got.out, "lease        held by ")
	close(hold)
	require.NoError(t, <-loaded)
}

func TestGetOfNothing(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	got := tandem(t, "", "get", "-redis", m.Addr(), "users", "42")
	require.Equal(t, exitFailure, got.code)
	require.Empty(t, got.out)
	require.Contains(t, got.errOut, "nothing there")
	require.Contains(t, got.errOut, "tandem:{users}:k:42")
}

func TestGetOfKnownNotToExist(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := newService(t, m.Addr(), nil)
	_, err := s.Get(t.Context(), "nobody")
	require.ErrorIs(t, err, tiered.ErrNotFound)
	got := tandem(t, "", "get", "-redis", m.Addr(), "users", "nobody")
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Contains(t, got.out, "known not to exist")
}

func TestInvalidateIsHeardByRunningInstances(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := newService(t, m.Addr(), nil)
	get := func() int64 {
		for _, key := range []string{"1", "2", "3"} {
			_, err := s.Get(t.Context(), key)
			require.NoError(t, err)
		}
		return s.loads.Load()
	}
	require.EqualValues(t, 3, get())
	for _, c := range []struct {
		stdin string
		args  []string
		says  string
		loads int64
	}{
		{"", []string{"1", "2"}, "invalidated 2 keys of cache users\n", 2},
		{"", []string{"absent"}, "invalidated 1 key of cache users\n", 0},
		{"1\n\n3\r\n", []string{"2", "-"}, "invalidated 3 keys of cache users\n", 3},
		{"", []string{"-"}, "invalidated 0 keys of cache users\n", 0},
		{"", []string{"-all"}, "invalidated every key of cache users\n", 3},
		{"", []string{"-tag", "user 1", "--tag", "user 3"}, "invalidated 2 tags of cache users\n", 2},
		{"", []string{"-tag=everybody"}, "invalidated 1 tag of cache users\n", 3},
		{"", []string{"-tag", "user 1", "2"}, "invalidated 1 tag and 1 key of cache users\n", 2},
		{"", []string{"-tag", "nobody's"}, "invalidated 1 tag of cache users\n", 0},
	} {
		before, heard := get(), s.Stats().Received
		got := tandem(t, c.stdin, append([]string{"invalidate", "-redis", m.Addr(), "users"}, c.args...)...)
		require.Equal(t, outcome{exitOK, c.says, ""}, got)
		if c.says != "invalidated 0 keys of cache users\n" {
			eventually(t, func() bool { return s.Stats().Received > heard })
		}
		eventually(t, func() bool { return get() == before+c.loads }, c.args...)
	}
	got := tandem(t, "", "invalidate", "-redis", m.Addr(), "users", "1", "2", "-json")
	require.JSONEq(t, `{"cache": "users", "all": false, "tags": 0, "keys": 2}`, got.out)
	got = tandem(t, "", "invalidate", "-redis", m.Addr(), "users", "-tag", "red", "-json")
	require.JSONEq(t, `{"cache": "users", "all": false, "tags": 1, "keys": 0}`, got.out)
}

func TestInvalidateManyFromStandardInput(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := newService(t, m.Addr(), nil)
	var lines strings.Builder
	for n := range 2500 {
		fmt.Fprintln(&lines, n)
		switch n {
		case 1200:
			fmt.Fprintln(&lines, strings.Repeat("k", 8<<10+1))
		case 1300:
			fmt.Fprintln(&lines, strings.Repeat("k", 64<<10+1))
		}
	}
	got := tandem(t, lines.String(), "invalidate", "-redis", m.Addr(), "users", "-")
	require.Equal(t, exitFailure, got.code, "for the lines that are no keys")
	require.Contains(t, got.errOut, "line 1202: invalid key: it has 8193 bytes")
	require.Contains(t, got.errOut, "line 1303: invalid key: it has 65537 bytes")
	require.Equal(t, "invalidated 2,500 keys of cache users\n", got.out)
	eventually(t, func() bool { return s.Stats().Received == 2500 })
}

func TestWatch(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := newService(t, m.Addr(), nil)
	one, stopOne := start(t, "watch", "-redis", m.Addr(), "users")
	all, stopAll := start(t, "watch", "-redis", m.Addr(), "-json")
	waitFor(t, one, "listening to tandem:{users}:bus:0")
	waitFor(t, all, `"listening"`)

	require.NoError(t, s.Invalidate(t.Context(), "42", "a key", "\x1b[31m"))
	waitFor(t, one, `  3: 42 "a key" "\x1b[31m"`)
	waitFor(t, all, `"op":"inv"`)
	require.Contains(t, all.String(), `"keys":["42","a key","\u001b[31m"]`)
	require.NoError(t, s.InvalidateAll(t.Context()))
	waitFor(t, one, "every key")
	require.NoError(t, s.Invalidate(t.Context(), "\xff"))
	waitFor(t, all, `"keys_base64":["/w=="]`)
	m.Publish("tandem:{users}:bus:0", "tandem/2 \x1b[31m")
	waitFor(t, one, "UNREADABLE")
	waitFor(t, all, `"unreadable"`)
	require.NotContains(t, one.String(), "\x1b")
	m.Publish("tandem:{other}:bus:0", "tandem/1 all 5:shell,")
	waitFor(t, all, `"cache":"other","op":"all","sender":"shell"`)
	require.NotContains(t, one.String(), "other")

	require.Zero(t, stopOne())
	require.Zero(t, stopAll())
	for line := range strings.Lines(all.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestWatchSaysWhatItMayHaveMissed(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	out, stop := start(t, "watch", "-redis", m.Addr(), "users")
	waitFor(t, out, "listening")
	m.Close()
	waitFor(t, out, "CONNECTION LOST")
	require.NoError(t, port.Use(m.Restart))
	eventually(t, func() bool { return strings.Count(out.String(), "listening") == 2 })
	m.Publish("tandem:{users}:bus:0", "tandem/1 inv 5:shell,2:42,")
	waitFor(t, out, "inv  from shell  1: 42")
	require.Equal(t, 1, strings.Count(out.String(), "CONNECTION LOST"))
	require.Zero(t, stop())
}

// A server that answers nothing any more does not close its connections.
func TestWatchNoticesSilence(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	out, stop := start(t, "watch", "-redis", srv.Addr())
	waitFor(t, out, "listening")
	require.NoError(t, srv.Pause())
	waitFor(t, out, "CONNECTION LOST (no answer for 4s)")
	require.NoError(t, srv.Resume())
	eventually(t, func() bool { return strings.Count(out.String(), "listening") == 2 })
	require.Zero(t, stop())
}

func waitFor(t *testing.T, out *syncBuffer, want string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(out.String(), want) }, want)
}
