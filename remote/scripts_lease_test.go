package remote

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

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
		f.refresh(f.a, token)
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
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
		l := f.acquire(f.a, dead)
		f.wait(f.a, "waiter")
		mine, err := f.a.Renew(f.ctx(), key, dead, time.Millisecond)
		require.NoError(f, err)
		require.True(f, mine)
		require.Eventually(f, func() bool {
			l, err := f.a.Acquire(f.ctx(), key, next, Wanted, ttl, "waiter")
			return err == nil && l.Outcome == Acquired
		}, patience, 5*time.Millisecond)
		f.requireLease(f.a, next, ttl)
		ears := f.listen("waiter")
		f.fill(f.a, dead, "of the dead", ttl, l.Epoch, false)
		mine, err = f.a.Renew(f.ctx(), key, dead, ttl)
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
		require.Nil(f, f.refresh(f.a, old).Value)
		l := f.refresh(f.a, token)
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
		f.refresh(f.a, token)
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
