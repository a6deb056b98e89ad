package remote

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// spec is one behaviour of a script, whatever server runs it.
type spec struct {
	name string
	test func(f *fixture)
}

// Each behaviour holds on miniredis, which most tests of this module trust, and on Redis.
func TestScripts(t *testing.T) {
	t.Parallel()
	specs := slices.Concat(acquireSpecs, renewSpecs, fillSpecs, releaseSpecs, setSpecs, invalidateSpecs, getSpecs, schemaSpecs)
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			rdb := server.start(t)
			for _, s := range specs {
				t.Run(s.name, func(t *testing.T) { // in turn: they share the server's channels
					s.test(newFixture(t, rdb))
				})
			}
		})
	}
}

var acquireSpecs = []spec{
	{"acquire/a missing entry gives the lease", func(f *fixture) {
		token := NewToken()
		before := f.now()
		l, err := f.a.Acquire(f.ctx(), key, token, Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		require.Nil(f, l.Value)
		require.GreaterOrEqual(f, l.Now, before)
		require.LessOrEqual(f, l.Now, f.now())
		f.requireLease(f.a, token, ttl)
		require.Equal(f, fmt.Sprintf("%d:%s", l.Now+ttl.Milliseconds(), token), f.field(f.a.field+leaseSuffix))
		require.Len(f, f.fields(), 1, "whoever holds the lease does not wait for it")
		f.requireTTL(ttl)
	}},
	{"acquire/a missing epoch is created and returned", func(f *fixture) {
		require.False(f, f.exists(f.keys.Epoch(0)))
		l := f.acquire(f.a, NewToken())
		require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
		require.Greater(f, f.pttl(f.keys.Epoch(0)), epochTTL-time.Minute)
		l2, err := f.b.Acquire(f.ctx(), "another", NewToken(), Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, l.Epoch, l2.Epoch, "and stays")
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
		l3, err := f.b.Acquire(f.ctx(), "a third", NewToken(), Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.NotEqual(f, l.Epoch, l3.Epoch, "one that was lost does not come back")
	}},
	{"acquire/the epoch is the one that is there", func(f *fixture) {
		f.setEpoch("00000000000000ff")
		require.EqualValues(f, 255, f.acquire(f.a, NewToken()).Epoch)
		require.Equal(f, "00000000000000ff", f.epochInRedis())
	}},
	{"acquire/another Redis type at the epoch is replaced", func(f *fixture) {
		for name, put := range wrongTypes {
			if name == "string" {
				put = func(ctx context.Context, rdb *redis.Client, key string) error {
					return rdb.HSet(ctx, key, "x", "y").Err()
				}
			}
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Epoch(0)))
			l, err := f.a.Acquire(f.ctx(), "k-"+name, NewToken(), Wanted, ttl, "inbox")
			require.NoError(f, err, name)
			require.Equal(f, Acquired, l.Outcome)
			require.Equal(f, EpochText(l.Epoch), f.epochInRedis(), name)
			require.Positive(f, f.pttl(f.keys.Epoch(0)), name)
		}
	}},
	{"acquire/another Redis type under the key is replaced", func(f *fixture) {
		for _, seen := range []Seen{Wanted, Unwanted, Unusable([]byte("x"))} {
			for name, put := range wrongTypes {
				require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
				require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)), name)
				token := NewToken()
				l, err := f.a.Acquire(f.ctx(), key, token, seen, ttl, "inbox")
				require.NoError(f, err, name)
				require.Equal(f, Acquired, l.Outcome, name)
				f.requireLease(f.a, token, ttl)
				f.requireTTL(ttl)
				f.fill(f.a, token, "value", ttl, l.Epoch, true)
				f.requireValue(f.a, "value")
			}
		}
	}},
	{"acquire/a value that is there is the answer", func(f *fixture) {
		f.put(f.a, everyByte(), time.Hour)
		before := f.fields()
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Found, l.Outcome)
		require.Equal(f, everyByte(), string(l.Value))
		require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
		require.InDelta(f, f.now(), l.Now, float64(patience.Milliseconds()))
		require.Equal(f, before, f.fields(), "nothing has changed")
	}},
	{"acquire/a value is the answer also while it is being refreshed", func(f *fixture) {
		f.put(f.a, "value", time.Hour)
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		l, err = f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Found, l.Outcome)
		require.Equal(f, "value", string(l.Value))
		f.requireLease(f.a, token, ttl)
	}},
	{"acquire/a value of no bytes is a value", func(f *fixture) {
		f.put(f.a, "", time.Hour)
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Found, l.Outcome)
		require.Empty(f, l.Value)
		l, err = f.a.Acquire(f.ctx(), key, NewToken(), Unusable(l.Value), ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
	}},
	{"acquire/somebody else's lease is waited for", func(f *fixture) {
		token := NewToken()
		f.acquire(f.a, token)
		before := f.field(f.a.field + leaseSuffix)
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, time.Hour, "first")
		require.NoError(f, err)
		require.Equal(f, Held, l.Outcome)
		require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
		require.Nil(f, l.Value)
		require.Equal(f, "first ", f.field(f.a.field+waiterSuffix))
		f.wait(f.a, "first")
		f.wait(f.a, "first")
		require.Equal(f, "first ", f.field(f.a.field+waiterSuffix), "registered once")
		f.wait(f.a, "second")
		f.wait(f.a, "first")
		require.Equal(f, "first second ", f.field(f.a.field+waiterSuffix))
		require.Equal(f, before, f.field(f.a.field+leaseSuffix), "nothing of the holder's has changed")
		f.requireTTL(ttl)
	}},
	{"acquire/the list of those who wait is bounded", func(f *fixture) {
		f.acquire(f.a, NewToken())
		inbox := func(i int) string { return fmt.Sprintf("tandem:inst:%01000d:0", i) }
		for i := range 20 {
			f.wait(f.a, inbox(i))
		}
		list := f.field(f.a.field + waiterSuffix)
		require.GreaterOrEqual(f, len(list), 8192)
		require.Less(f, len(list), 8192+1100)
		require.Equal(f, 9, strings.Count(list, " "))
	}},
	{"acquire/an expired lease is taken over", func(f *fixture) {
		f.put(f.b, "other", time.Hour) // keeps the key, so that it is not Redis that forgets the lease
		dead, next := NewToken(), NewToken()
		l, err := f.a.Acquire(f.ctx(), key, dead, Wanted, 30*time.Millisecond, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		f.wait(f.a, "waiter")
		require.Eventually(f, func() bool {
			l, err := f.a.Acquire(f.ctx(), key, next, Wanted, ttl, "waiter")
			return err == nil && l.Outcome == Acquired
		}, patience, 5*time.Millisecond)
		f.requireLease(f.a, next, ttl)
		ears := f.listen("waiter")
		f.fill(f.a, dead, "of the dead", ttl, l.Epoch, false)
		mine, err := f.a.Renew(f.ctx(), key, dead, ttl)
		require.NoError(f, err)
		require.False(f, mine)
		require.NoError(f, f.a.Release(f.ctx(), key, dead, []byte("failed")))
		f.requireLease(f.a, next, ttl)
		require.Empty(f, ears.heard())
		f.fill(f.a, next, "value", ttl, l.Epoch, true)
		require.Equal(f, []string{"waiter filled"}, ears.heard(), "who waited for the dead is told by its successor")
	}},
	{"acquire/a lease that is expired and not taken over still fills", func(f *fixture) {
		f.put(f.b, "other", time.Hour)
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Wanted, time.Millisecond, "inbox")
		require.NoError(f, err)
		require.Eventually(f, func() bool { return f.now() > l.Now+1 }, patience, time.Millisecond)
		f.fill(f.a, token, "value", ttl, l.Epoch, true)
		f.requireValue(f.a, "value")
	}},
	{"acquire/the key goes with the lease", func(f *fixture) {
		_, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, 20*time.Millisecond, "inbox")
		require.NoError(f, err)
		require.LessOrEqual(f, f.pttl(f.keys.Entry(key)), 20*time.Millisecond)
	}},
	{"acquire/the same token again is acquired again", func(f *fixture) {
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Wanted, 20*time.Second, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		f.wait(f.a, "waiter")
		for _, seen := range []Seen{Wanted, Unwanted, Unusable([]byte("x"))} {
			l, err = f.a.Acquire(f.ctx(), key, token, seen, ttl, "inbox")
			require.NoError(f, err)
			require.Equal(f, Acquired, l.Outcome)
			f.requireLease(f.a, token, ttl)
			f.requireTTL(ttl)
			require.Equal(f, "waiter ", f.field(f.a.field+waiterSuffix), "who waits still does, and the holder does not")
		}
	}},
	{"acquire/a value that cannot be used gives the lease", func(f *fixture) {
		f.put(f.a, "junk\x00", time.Hour)
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Unusable([]byte("junk\x00")), ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		f.requireLease(f.a, token, ttl)
		f.requireValue(f.a, "junk\x00")
		f.requireTTL(time.Hour)
		f.fill(f.a, token, "good", ttl, l.Epoch, true)
		f.requireValue(f.a, "good")
	}},
	{"acquire/another value than the one that cannot be used is the answer", func(f *fixture) {
		f.put(f.a, "good", time.Hour)
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Unusable([]byte("junk")), ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Found, l.Outcome)
		require.Equal(f, "good", string(l.Value))
		f.requireNoLease(f.a)
	}},
	{"acquire/a value that cannot be used is loaded by one", func(f *fixture) {
		f.put(f.a, "junk", time.Hour)
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Unusable([]byte("junk")), ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		l, err = f.a.Acquire(f.ctx(), key, NewToken(), Unusable([]byte("junk")), ttl, "waiter")
		require.NoError(f, err)
		require.Equal(f, Held, l.Outcome)
		require.Equal(f, "waiter ", f.field(f.a.field+waiterSuffix))
	}},
	{"acquire/who wants no value takes the lease from its holder", func(f *fixture) {
		f.put(f.a, "value", time.Hour)
		old, token := NewToken(), NewToken()
		l, err := f.a.Acquire(f.ctx(), key, old, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		require.Nil(f, l.Value)
		l, err = f.a.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		require.Equal(f, Acquired, l.Outcome)
		f.requireLease(f.a, token, ttl)
		f.requireValue(f.a, "value")
		mine, err := f.a.Renew(f.ctx(), key, old, time.Hour)
		require.NoError(f, err)
		require.False(f, mine)
		f.fill(f.a, old, "of the old", ttl, l.Epoch, false)
		require.NoError(f, f.a.Release(f.ctx(), key, old, []byte("failed")))
		f.requireLease(f.a, token, ttl)
		f.fill(f.a, token, "new", ttl, l.Epoch, true)
		f.requireValue(f.a, "new")
	}},
	{"acquire/a lease that cannot be read is taken over", func(f *fixture) {
		for _, junk := range []string{"", "x", "never:" + string(NewToken()), string(NewToken()), strings.Repeat("z", 45), "\x00"} {
			require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry(key), f.a.field+leaseSuffix, junk).Err())
			token := NewToken()
			f.acquire(f.a, token)
			f.requireLease(f.a, token, ttl)
			f.requireTTL(ttl)
		}
	}},
	{"acquire/the TTL of the key is not shortened", func(f *fixture) {
		f.put(f.b, "other", time.Hour)
		f.acquire(f.a, NewToken())
		f.requireTTL(time.Hour)
	}},
	{"acquire/a key without a TTL gets one", func(f *fixture) {
		require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry(key), "of a stranger", "x").Err())
		f.acquire(f.a, NewToken())
		f.requireTTL(ttl)
	}},
	{"acquire/any bytes may stand in a key", func(f *fixture) {
		for _, k := range []string{everyByte(), strings.Repeat("\xff", MaxKeyBytes), " ", "}:k:", "\n"} {
			token := NewToken()
			l, err := f.a.Acquire(f.ctx(), k, token, Wanted, ttl, "inbox")
			require.NoError(f, err)
			stored, err := f.a.Fill(f.ctx(), k, token, []byte("value of "+k), ttl, l.Epoch, nil)
			require.NoError(f, err)
			require.True(f, stored)
			v, err := f.a.Get(f.ctx(), k)
			require.NoError(f, err)
			require.Equal(f, "value of "+k, string(v))
		}
	}},
	{"acquire/a value that is too long is as good as none", func(f *fixture) {
		for n, want := range map[int]Outcome{maxBytes: Found, maxBytes + 1: Acquired, 4 * maxBytes: Acquired} {
			k, token := fmt.Sprint(n), NewToken()
			require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry(k), f.a.field, strings.Repeat("x", n)).Err())
			require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry(k), ttl).Err())
			l, err := f.a.Acquire(f.ctx(), k, token, Wanted, ttl, "inbox")
			require.NoError(f, err)
			require.Equal(f, want, l.Outcome, "%d bytes", n)
			if want == Acquired {
				stored, err := f.a.Fill(f.ctx(), k, token, []byte("value"), ttl, l.Epoch, nil)
				require.NoError(f, err)
				require.True(f, stored, "and is replaced")
			}
		}
	}},
	{"acquire/an epoch that cannot be read is replaced", func(f *fixture) {
		for _, junk := range []string{
			"", "x", "00000000000000ff", "00000000000000FF:+", "0000000000000ff:+", ":+", "00000000000000zz", "00000000000000ff0", "-000000000000001", "00000000000000FF", "0x000000000000ff",
			"00000000000000f\x00", "000000000000 00f", "000000000000000\n", strings.Repeat("\xff", 16), strings.Repeat("0", 1<<16),
		} {
			require.NoError(f, f.rdb.Set(f.ctx(), f.keys.Epoch(0), junk, 0).Err())
			k, token := "k-"+junk[:min(len(junk), 20)], NewToken()
			l, err := f.a.Acquire(f.ctx(), k, token, Wanted, ttl, "inbox")
			require.NoError(f, err, "%.32q", junk)
			require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
			require.NotEqual(f, junk, f.epochInRedis())
			require.Positive(f, f.pttl(f.keys.Epoch(0)))
			stored, err := f.a.Fill(f.ctx(), k, token, []byte("value"), ttl, l.Epoch, nil)
			require.NoError(f, err)
			require.True(f, stored)
		}
	}},
}

var renewSpecs = []spec{
	{"renew/extends a lease", func(f *fixture) {
		token := NewToken()
		_, err := f.a.Acquire(f.ctx(), key, token, Wanted, 20*time.Second, "inbox")
		require.NoError(f, err)
		f.wait(f.a, "waiter")
		mine, err := f.a.Renew(f.ctx(), key, token, ttl)
		require.NoError(f, err)
		require.True(f, mine)
		f.requireLease(f.a, token, ttl)
		f.requireTTL(ttl)
		require.Equal(f, "waiter ", f.field(f.a.field+waiterSuffix))
	}},
	{"renew/does not shorten the TTL of the key", func(f *fixture) {
		f.put(f.b, "other", time.Hour)
		token := NewToken()
		f.acquire(f.a, token)
		mine, err := f.a.Renew(f.ctx(), key, token, 20*time.Second)
		require.NoError(f, err)
		require.True(f, mine)
		f.requireLease(f.a, token, 20*time.Second)
		f.requireTTL(time.Hour)
	}},
	{"renew/only one's own", func(f *fixture) {
		token := NewToken()
		f.acquire(f.a, token)
		before := f.fields()
		for _, other := range []Token{NewToken(), "", token[:31], token[1:], Token(before[f.a.field+leaseSuffix])} {
			mine, err := f.a.Renew(f.ctx(), key, other, time.Hour)
			require.NoError(f, err)
			require.False(f, mine, "%q", other)
		}
		mine, err := f.b.Renew(f.ctx(), key, token, time.Hour)
		require.NoError(f, err)
		require.False(f, mine, "the other schema's lease is not this one")
		require.Equal(f, before, f.fields())
		f.requireTTL(ttl)
	}},
	{"renew/never brings a deleted lease back", func(f *fixture) {
		token := NewToken()
		f.acquire(f.a, token)
		require.NoError(f, f.a.Invalidate(f.ctx(), []string{key}, []byte("inv")))
		mine, err := f.a.Renew(f.ctx(), key, token, ttl)
		require.NoError(f, err)
		require.False(f, mine)
		require.False(f, f.exists(f.keys.Entry(key)))

		f.put(f.a, "value", ttl)
		mine, err = f.a.Renew(f.ctx(), key, token, ttl)
		require.NoError(f, err)
		require.False(f, mine)
		f.requireNoLease(f.a)
	}},
	{"renew/leaves another Redis type alone", func(f *fixture) {
		for name, put := range wrongTypes {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)))
			require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry(key), time.Hour).Err())
			mine, err := f.a.Renew(f.ctx(), key, NewToken(), ttl)
			require.NoError(f, err)
			require.False(f, mine)
			kind, err := f.rdb.Type(f.ctx(), f.keys.Entry(key)).Result()
			require.NoError(f, err)
			require.Equal(f, name, kind)
		}
	}},
}

var fillSpecs = []spec{
	{"fill/stores what the holder has loaded", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		f.fill(f.a, token, everyByte(), time.Hour, l.Epoch, true)
		f.requireValue(f.a, everyByte())
		require.Equal(f, map[string]string{f.a.field: everyByte()}, f.fields(), "the lease is gone")
		f.requireTTL(time.Hour)
	}},
	{"fill/tells those who wait, once", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		ears := f.listen("first", "second", "third", f.channel())
		f.wait(f.a, "second")
		f.wait(f.a, "first")
		f.fill(f.a, token, "value", ttl, l.Epoch, true)
		require.Equal(f, []string{"second filled", "first filled"}, ears.heard(), "and nobody else: a fill changes nothing")
		f.fill(f.a, token, "again", ttl, l.Epoch, false)
		require.Empty(f, ears.heard())
		f.requireValue(f.a, "value")
	}},
	{"fill/needs the lease", func(f *fixture) {
		l := f.acquire(f.a, NewToken())
		before := f.fields()
		for _, other := range []Token{NewToken(), "", "x", Token(before[f.a.field+leaseSuffix])} {
			f.fill(f.a, other, "value", ttl, l.Epoch, false)
		}
		require.Equal(f, before, f.fields())
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
		f.fill(f.a, NewToken(), "value", ttl, l.Epoch, false)
		f.fill(f.a, "", "value", ttl, l.Epoch, false)
		require.False(f, f.exists(f.keys.Entry(key)))
	}},
	{"fill/a lease of the other schema is none", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		before := f.fields()
		f.fill(f.b, token, "value", ttl, l.Epoch, false)
		require.Equal(f, before, f.fields())
	}},
	{"fill/is refused after Invalidate", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		require.NoError(f, f.b.Invalidate(f.ctx(), []string{"other", key}, []byte("inv")))
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		require.False(f, f.exists(f.keys.Entry(key)))

		next := NewToken()
		f.acquire(f.a, next)
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		f.requireLease(f.a, next, ttl)
		f.fill(f.a, next, "new", ttl, l.Epoch, true)
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		f.requireValue(f.a, "new")
	}},
	{"fill/is refused after Set", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		stored, err := f.b.Set(f.ctx(), key, []byte("new"), ttl, l.Epoch, l.Now+ttl.Milliseconds(), []byte("inv"))
		require.NoError(f, err)
		require.True(f, stored)
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		f.requireNothing(f.a)
		f.requireValue(f.b, "new")
	}},
	{"fill/is refused after InvalidateAll, and those who wait are told", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		f.wait(f.a, "waiter")
		f.put(f.b, "other", time.Hour)
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		ears := f.listen("waiter")
		f.fill(f.a, token, "old", 2*time.Hour, l.Epoch, false)
		require.Equal(f, []string{"waiter filled"}, ears.heard())
		f.requireNothing(f.a)
		f.requireNoLease(f.a)
		f.requireTTL(time.Hour)
		f.put(f.a, "new", ttl)
		f.requireValue(f.a, "new")
	}},
	{"fill/is refused without an epoch", func(f *fixture) {
		for name, spoil := range map[string]func() error{
			"lost": func() error { return f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err() },
			"other": func() error {
				return f.rdb.Set(f.ctx(), f.keys.Epoch(0), "0123456789abcdef"+epochNote, time.Hour).Err()
			},
			"wrong type": func() error { return f.rdb.RPush(f.ctx(), f.keys.Epoch(0), "x").Err() },
		} {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key), f.keys.Epoch(0)).Err())
			token := NewToken()
			l := f.acquire(f.a, token)
			f.wait(f.a, "waiter")
			ears := f.listen("waiter")
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
			require.NoError(f, spoil())
			f.fill(f.a, token, "old", ttl, l.Epoch, false)
			require.Equal(f, []string{"waiter filled"}, ears.heard(), name)
			require.False(f, f.exists(f.keys.Entry(key)), name)
		}
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
	}},
	{"fill/never shortens the TTL of the key", func(f *fixture) {
		f.put(f.b, "other", time.Hour)
		f.put(f.a, "value", time.Second)
		f.requireTTL(time.Hour)
		f.requireValue(f.b, "other")
		f.requireValue(f.a, "value")
	}},
	{"fill/lengthens the TTL of the key", func(f *fixture) {
		f.put(f.b, "other", ttl)
		f.put(f.a, "value", time.Hour)
		f.requireTTL(time.Hour)
	}},
	{"fill/leaves another Redis type alone", func(f *fixture) {
		l := f.acquire(f.a, NewToken())
		for name, put := range wrongTypes {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)))
			require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry(key), time.Hour).Err())
			f.fill(f.a, NewToken(), "value", ttl, l.Epoch, false)
			kind, err := f.rdb.Type(f.ctx(), f.keys.Entry(key)).Result()
			require.NoError(f, err)
			require.Equal(f, name, kind)
		}
	}},
	{"fill/replaces a value that is there", func(f *fixture) {
		f.put(f.a, "old", time.Hour)
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		f.fill(f.a, token, "new", ttl, l.Epoch, true)
		f.requireValue(f.a, "new")
		f.requireTTL(time.Hour)
	}},
}

var releaseSpecs = []spec{
	{"release/gives the lease up and tells those who wait", func(f *fixture) {
		token := NewToken()
		f.acquire(f.a, token)
		f.wait(f.a, "first")
		f.wait(f.a, "second")
		ears := f.listen("first", "second", f.channel())
		require.NoError(f, f.a.Release(f.ctx(), key, token, []byte("failed")))
		require.Equal(f, []string{"first failed", "second failed"}, ears.heard())
		require.False(f, f.exists(f.keys.Entry(key)), "nothing is left of it")
		f.acquire(f.a, NewToken())
		require.NoError(f, f.a.Release(f.ctx(), key, token, []byte("failed")))
		require.Empty(f, ears.heard(), "a second time does nothing")
	}},
	{"release/only one's own", func(f *fixture) {
		token := NewToken()
		f.acquire(f.a, token)
		f.wait(f.a, "waiter")
		ears := f.listen("waiter")
		before := f.fields()
		for _, other := range []Token{NewToken(), "", "x"} {
			require.NoError(f, f.a.Release(f.ctx(), key, other, []byte("failed")))
		}
		require.NoError(f, f.b.Release(f.ctx(), key, token, []byte("failed")))
		require.Equal(f, before, f.fields())
		require.Empty(f, ears.heard())
	}},
	{"release/leaves values alone", func(f *fixture) {
		f.put(f.a, "value", time.Hour)
		f.put(f.b, "other", time.Hour)
		token := NewToken()
		_, err := f.a.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		require.NoError(f, f.a.Release(f.ctx(), key, token, []byte("failed")))
		require.Equal(f, map[string]string{f.a.field: "value", f.b.field: "other"}, f.fields())
		f.requireTTL(time.Hour)
	}},
	{"release/does nothing without a lease", func(f *fixture) {
		require.NoError(f, f.a.Release(f.ctx(), key, NewToken(), []byte("failed")))
		require.NoError(f, f.a.Release(f.ctx(), key, "", []byte("failed")))
		require.False(f, f.exists(f.keys.Entry(key)))
		for name, put := range wrongTypes {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)))
			require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry(key), time.Hour).Err())
			require.NoError(f, f.a.Release(f.ctx(), key, NewToken(), []byte("failed")))
			kind, err := f.rdb.Type(f.ctx(), f.keys.Entry(key)).Result()
			require.NoError(f, err)
			require.Equal(f, name, kind)
		}
	}},
}

var setSpecs = []spec{
	{"set/stores, and invalidates what was there", func(f *fixture) {
		f.put(f.a, "old", time.Hour)
		f.put(f.b, "other", time.Hour)
		token := NewToken()
		l, err := f.a.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
		require.NoError(f, err)
		ears := f.listen(f.channel())
		stored, err := f.a.Set(f.ctx(), key, []byte(everyByte()), ttl, l.Epoch, f.now()+patience.Milliseconds(), []byte(everyByte()))
		require.NoError(f, err)
		require.True(f, stored)
		require.Equal(f, map[string]string{f.a.field: everyByte()}, f.fields(), "no lease, and no other schema's value")
		f.requireTTL(ttl)
		require.Equal(f, []string{f.channel() + " " + everyByte()}, ears.heard())
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
	}},
	{"set/stores where nothing was", func(f *fixture) {
		f.setEpoch(EpochText(7))
		stored, err := f.a.Set(f.ctx(), key, []byte("value"), ttl, 7, f.now()+patience.Milliseconds(), []byte("inv"))
		require.NoError(f, err)
		require.True(f, stored)
		f.requireValue(f.a, "value")
		f.requireTTL(ttl)
	}},
	{"set/stores in place of another Redis type", func(f *fixture) {
		f.setEpoch(EpochText(7))
		for _, put := range wrongTypes {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)))
			stored, err := f.a.Set(f.ctx(), key, []byte("value"), ttl, 7, f.now()+patience.Milliseconds(), []byte("inv"))
			require.NoError(f, err)
			require.True(f, stored)
			f.requireValue(f.a, "value")
			f.requireTTL(ttl)
		}
	}},
	{"set/after its time it only invalidates", func(f *fixture) {
		l := f.acquire(f.a, NewToken())
		f.put(f.b, "other", time.Hour)
		ears := f.listen(f.channel())
		stored, err := f.a.Set(f.ctx(), key, []byte("late"), ttl, l.Epoch, f.now()-1, []byte("inv"))
		require.NoError(f, err)
		require.False(f, stored)
		require.False(f, f.exists(f.keys.Entry(key)))
		require.Equal(f, []string{f.channel() + " inv"}, ears.heard())
	}},
	{"set/in another epoch it only invalidates", func(f *fixture) {
		for name, spoil := range map[string]func() error{
			"lost":       func() error { return nil },
			"other":      func() error { return f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0] },
			"wrong type": func() error { return f.rdb.RPush(f.ctx(), f.keys.Epoch(0), "x").Err() },
		} {
			l := f.acquire(f.a, NewToken())
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
			require.NoError(f, spoil())
			ears := f.listen(f.channel())
			stored, err := f.a.Set(f.ctx(), key, []byte("old"), ttl, l.Epoch, f.now()+patience.Milliseconds(), []byte("inv"))
			require.NoError(f, err)
			require.False(f, stored, name)
			require.False(f, f.exists(f.keys.Entry(key)), name)
			require.Equal(f, []string{f.channel() + " inv"}, ears.heard(), name)
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
		}
	}},
}

var invalidateSpecs = []spec{
	{"invalidate/deletes values and leases of all schemas", func(f *fixture) {
		f.put(f.a, "value", time.Hour)
		f.put(f.b, "other", time.Hour)
		ta, tb := NewToken(), NewToken()
		for s, token := range map[*Store]Token{f.a: ta, f.b: tb} {
			l, err := s.Acquire(f.ctx(), key, token, Unwanted, ttl, "inbox")
			require.NoError(f, err)
			require.Equal(f, Acquired, l.Outcome)
		}
		ears := f.listen(f.channel())
		require.NoError(f, f.a.Invalidate(f.ctx(), []string{key}, []byte(everyByte())))
		require.False(f, f.exists(f.keys.Entry(key)))
		require.Equal(f, []string{f.channel() + " " + everyByte()}, ears.heard())
	}},
	{"invalidate/takes many keys, absent ones and other types too", func(f *fixture) {
		var keys []string
		for i := range MaxBatch {
			k := fmt.Sprintf("k%d", i)
			keys = append(keys, k)
			if i%3 == 0 {
				continue
			}
			put := slices.Collect(maps.Values(wrongTypes))[i%len(wrongTypes)]
			if i%3 == 1 {
				put = func(ctx context.Context, rdb *redis.Client, key string) error {
					return rdb.HSet(ctx, key, f.a.field, "value").Err()
				}
			}
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(k)))
		}
		keys = append(keys[:MaxBatch-1], keys[1]) // one twice
		require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry("survivor"), "x", "y").Err())
		require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry("survivor"), time.Hour).Err())
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(fmt.Sprintf("k%d", MaxBatch-1))).Err())
		ears := f.listen(f.channel())
		require.NoError(f, f.a.Invalidate(f.ctx(), keys, []byte("inv")))
		require.Equal(f, []string{f.channel() + " inv"}, ears.heard(), "one message")
		for _, k := range keys {
			require.False(f, f.exists(f.keys.Entry(k)), k)
		}
		require.True(f, f.exists(f.keys.Entry("survivor")))
	}},
	{"invalidate/without a key is an error", func(f *fixture) {
		ears := f.listen(f.channel())
		require.Error(f, f.a.Invalidate(f.ctx(), nil, []byte("inv")))
		require.Empty(f, ears.heard())
	}},
	{"invalidate/the change and its message are one step", func(f *fixture) {
		// Whoever has heard the message finds the change made; and the order of the messages is that of the changes, so that
		// the last one heard is what is there.
		f.setEpoch(EpochText(7))
		const writers, each = 4, 50
		ears := f.listen(f.channel())
		errs := make(chan error, writers)
		for w := range writers {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					v := fmt.Appendf(nil, "%d-%d", w, i)
					if i%5 == 4 {
						err = f.a.Invalidate(f.ctx(), []string{key}, []byte("none"))
					} else {
						_, err = f.a.Set(f.ctx(), key, v, ttl, 7, f.now()+patience.Milliseconds(), v)
					}
				}
				errs <- err
			}()
		}
		for range writers {
			require.NoError(f, <-errs)
		}
		heard := ears.heard()
		require.Len(f, heard, writers*each)
		last := strings.TrimPrefix(heard[len(heard)-1], f.channel()+" ")
		v, err := f.a.Get(f.ctx(), key)
		require.NoError(f, err)
		if last == "none" {
			require.Nil(f, v)
		} else {
			require.Equal(f, last, string(v))
		}
	}},
	{"invalidate/who hears the message does not find the value", func(f *fixture) {
		ears := f.listen(f.channel())
		for i := range 50 {
			f.put(f.a, "value", ttl)
			errs := make(chan error, 1)
			go func() { errs <- f.a.Invalidate(f.ctx(), []string{key}, fmt.Append(nil, i)) }()
			require.Equal(f, fmt.Sprint(f.channel(), " ", i), ears.next())
			f.requireNothing(f.a)
			require.NoError(f, <-errs)
		}
	}},
	{"invalidate all/starts a new epoch and says so", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		f.put(f.b, "other", time.Hour)
		ears := f.listen(f.channel())
		seen := map[string]bool{f.epochInRedis(): true}
		for range 5 {
			require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte(everyByte()))[0])
			require.Equal(f, []string{f.channel() + " " + everyByte()}, ears.heard())
			e := f.epochInRedis()
			require.False(f, seen[e], "never the same again")
			seen[e] = true
			require.Greater(f, f.pttl(f.keys.Epoch(0)), epochTTL-time.Minute)
		}
		f.requireValue(f.b, "other") // what there was stays, and is of another epoch
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		l = f.acquire(f.a, NewToken())
		require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
	}},
	{"invalidate all/leaves what the heartbeat has noted", func(f *fixture) {
		f.setEpoch(EpochText(7))
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		require.Equal(f, f.epochInRedis()+epochNote, f.rdb.Get(f.ctx(), f.keys.Epoch(0)).Val())
	}},
	{"invalidate all/where no epoch was, or another type", func(f *fixture) {
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		first := f.epochInRedis()
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
		require.NoError(f, f.rdb.RPush(f.ctx(), f.keys.Epoch(0), "x").Err())
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		require.NotEqual(f, first, f.epochInRedis())
	}},
}

var getSpecs = []spec{
	{"get/what is there, or nothing", func(f *fixture) {
		f.requireNothing(f.a)
		f.put(f.b, "other", ttl)
		f.requireNothing(f.a)
		f.put(f.a, everyByte(), ttl)
		f.requireValue(f.a, everyByte())
		f.requireValue(f.b, "other")
	}},
	{"get/another Redis type has an error of its own", func(f *fixture) {
		for name, put := range wrongTypes {
			require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(key)).Err())
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(key)))
			require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry(key), ttl).Err())
			v, err := f.a.Get(f.ctx(), key)
			require.ErrorIs(f, err, ErrWrongType, name)
			require.Nil(f, v)
		}
	}},
	{"get/a value of no bytes is not nothing", func(f *fixture) {
		f.put(f.a, "", ttl)
		v, err := f.a.Get(f.ctx(), key)
		require.NoError(f, err)
		require.NotNil(f, v)
		require.Empty(f, v)
	}},
}

var schemaSpecs = []spec{
	{"schemas/live side by side in one key", func(f *fixture) {
		ta, tb := NewToken(), NewToken()
		ears := f.listen("wa", "wb")
		la := f.acquire(f.a, ta)
		lb := f.acquire(f.b, tb) // the other's lease is not in the way
		require.Equal(f, la.Epoch, lb.Epoch)
		f.wait(f.a, "wa")
		f.wait(f.b, "wb")
		f.requireLease(f.a, ta, ttl)
		f.requireLease(f.b, tb, ttl)

		f.fill(f.a, ta, "value", 2*time.Minute, la.Epoch, true)
		require.Equal(f, []string{"wa filled"}, ears.heard())
		f.requireLease(f.b, tb, ttl)
		require.Equal(f, "wb ", f.field(f.b.field+waiterSuffix))
		f.requireNothing(f.b)

		mine, err := f.b.Renew(f.ctx(), key, tb, time.Hour)
		require.NoError(f, err)
		require.True(f, mine)
		f.requireValue(f.a, "value")

		require.NoError(f, f.b.Release(f.ctx(), key, tb, []byte("failed")))
		require.Equal(f, []string{"wb failed"}, ears.heard())
		require.Equal(f, map[string]string{f.a.field: "value"}, f.fields())

		f.put(f.b, "other", ttl)
		f.requireValue(f.a, "value")
		f.requireValue(f.b, "other")
	}},
	{"schemas/differ by codec and by type", func(f *fixture) {
		stores := map[string]*Store{}
		for _, s := range []Schema{{"a", 1}, {"a", 2}, {"b", 1}, {"a-b", 1}, {"l", 1}, {strings.Repeat("x", MaxCodecName), 1}} {
			stores[s.Field()] = New(f.rdb, Options{Keys: f.keys, Schema: s, DB: db, MaxBytes: maxBytes})
			f.put(stores[s.Field()], "value of "+s.Field(), ttl)
		}
		require.Len(f, stores, 6)
		for field, s := range stores {
			f.requireValue(s, "value of "+field)
		}
	}},
}
