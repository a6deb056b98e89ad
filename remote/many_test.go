package remote

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// What the calls for many keys do is what those for one do, for each key by itself.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, srv.start(t))
			s, others := f.a, f.b
			ctx := f.ctx()
			require.NoError(t, f.rdb.RPush(ctx, f.keys.Entry("list"), "x").Err())
			require.NoError(t, f.rdb.PExpire(ctx, f.keys.Entry("list"), ttl).Err())

			// Leases: free, of another schema, held, and of a wrong type.
			theirs := NewToken()
			l, err := s.Acquire(ctx, "held", theirs, Wanted, ttl, "their-inbox")
			require.NoError(t, err)
			require.Equal(t, Acquired, l.Outcome)
			_, err = others.Acquire(ctx, "free", NewToken(), Wanted, ttl, "other-release")
			require.NoError(t, err)
			names := []string{"free", "held", "list", "also free"}
			asks := make([]Ask, len(names))
			for i, name := range names {
				asks[i] = Ask{Key: name, Token: NewToken(), Inbox: "inbox"}
			}
			outcomes := []Outcome{Acquired, Held, Acquired, Acquired}
			var fills []Filling
			for i, a := range s.AcquireMany(ctx, asks, ttl) {
				require.NoError(t, a.Err)
				require.Equal(t, outcomes[i], a.Value.Outcome, names[i])
				if a.Value.Outcome == Acquired {
					require.Equal(t, asks[i].Token, a.Value.Token)
				}
				fills = append(fills, Filling{
					Key: names[i], Token: asks[i].Token, Envelope: []byte("value of " + names[i]), TTL: ttl,
					Epoch: a.Value.Epoch, Wake: []byte("filled " + names[i]),
				})
			}

			// Renewals, of which one comes too late.
			ears := f.listen("inbox", "their-inbox", f.channel())
			require.NoError(t, s.Invalidate(ctx, []string{"also free"}, []byte("gone")))
			var leases []Holding
			for _, a := range asks {
				leases = append(leases, Holding{Key: a.Key, Token: a.Token, Wake: []byte("released " + a.Key)})
			}
			requireAll(t, []bool{true, false, true, false}, s.RenewMany(ctx, leases, ttl))

			// Fills, of which one was invalidated and one is somebody else's.
			requireAll(t, []bool{true, false, true, false}, s.FillMany(ctx, fills))
			got := s.GetMany(ctx, append(names, "nothing"))
			want := []string{"value of free", "", "value of list", "", ""}
			for i, a := range got {
				require.NoError(t, a.Err)
				require.Equal(t, want[i], string(a.Value))
			}
			again := s.AcquireMany(ctx, []Ask{{Key: "free", Token: NewToken(), Seen: Unusable([]byte("value of free"))}, {Key: "list"}}, ttl)
			require.Equal(t, Acquired, again[0].Value.Outcome)
			require.Equal(t, Found, again[1].Value.Outcome)
			require.Equal(t, "value of list", string(again[1].Value.Value))

			// Releases: only one's own, and who waits is told.
			leases[1].Token = theirs
			requireAll(t, []bool{false, true, false, false}, s.ReleaseMany(ctx, leases))
			require.Equal(t, []string{f.channel() + " gone", "inbox released held"}, ears.heard())

			// Sets: each invalidates; one is of an old epoch.
			sets := []Setting{
				{Key: "free", Envelope: []byte("set free"), TTL: ttl, Message: []byte("m1")},
				{Key: "new", Envelope: []byte("set new"), TTL: ttl, Message: []byte("m2")},
			}
			for i := range sets {
				sets[i].Epoch, sets[i].NotAfter = l.Epoch, f.now()+ttl.Milliseconds()
			}
			requireAll(t, []bool{true, true}, s.SetMany(ctx, sets))
			require.Equal(t, []string{f.channel() + " m1", f.channel() + " m2"}, ears.heard())
			sets[0].Epoch++
			sets[1].NotAfter = f.now() - 1
			requireAll(t, []bool{false, false}, s.SetMany(ctx, sets))
			for _, a := range s.GetMany(ctx, []string{"free", "new"}) {
				require.NoError(t, a.Err)
				require.Nil(t, a.Value)
			}
			require.Empty(t, s.GetMany(ctx, nil))
		})
	}
}

func requireAll(t *testing.T, want []bool, got []Answer[bool]) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, a := range got {
		require.NoError(t, a.Err)
		require.Equal(t, want[i], a.Value, i)
	}
}

func TestGetManyOfAWrongType(t *testing.T) {
	t.Parallel()
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, srv.start(t))
			f.put(f.a, "v", ttl)
			require.NoError(t, f.rdb.RPush(f.ctx(), f.keys.Entry("list"), "x").Err())
			require.NoError(t, f.rdb.PExpire(f.ctx(), f.keys.Entry("list"), ttl).Err())
			got := f.a.GetMany(f.ctx(), []string{"list", key})
			require.ErrorIs(t, got[0].Err, ErrWrongType)
			require.NoError(t, got[1].Err)
			require.Equal(t, "v", string(got[1].Value))
		})
	}
}

// Values that the client refuses to read end the connection, and the others are read all the same.
func TestGetManyWithValuesThatAreTooLong(t *testing.T) {
	t.Parallel()
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			plain := srv.start(t)
			rdb, err := redisclient.Derive(plain, nil)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, rdb.Close()) })
			f := newFixture(t, plain)
			s := New(rdb, Options{Keys: f.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes})
			names := make([]string, 300)
			for i := range names {
				names[i] = fmt.Sprint("k", i)
				value := fmt.Sprint("v", i)
				if i%100 == 50 {
					value = strings.Repeat("x", 3<<20)
				}
				require.NoError(t, plain.HSet(f.ctx(), f.keys.Entry(names[i]), s.field, value).Err())
				require.NoError(t, plain.PExpire(f.ctx(), f.keys.Entry(names[i]), time.Hour).Err())
			}
			for i, a := range s.GetMany(f.ctx(), names) {
				if i%100 == 50 {
					require.ErrorIs(t, a.Err, ErrTooLarge, i)
					require.Nil(t, a.Value)
					continue
				}
				require.NoError(t, a.Err, i)
				require.Equal(t, fmt.Sprint("v", i), string(a.Value))
			}
		})
	}
}

// A Redis that does not answer is waited for as long as the context says, and every key has the error.
func TestManyKeysObeyTheContext(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	f := newFixture(t, newClient(t, srv.Addr()))
	f.put(f.a, "v", ttl)
	require.NoError(t, srv.Pause())
	t.Cleanup(func() { require.NoError(t, srv.Resume()) })
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, a := range f.a.GetMany(ctx, []string{key, "other"}) {
		require.Error(t, a.Err)
	}
	var reply redis.Error
	for _, a := range f.a.AcquireMany(ctx, []Ask{{Key: key}, {Key: "other"}}, ttl) {
		require.Error(t, a.Err)
		require.NotErrorAs(t, a.Err, &reply)
	}
	require.Less(t, time.Since(began), patience)
}
