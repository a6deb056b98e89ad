package remote

import (
	"time"

	"github.com/stretchr/testify/require"
)

var fillSpecs = []spec{
	{"fill/stores what the holder has loaded", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		f.fill(f.a, token, everyByte(), time.Hour, l.Epoch, true)
		f.requireValue(f.a, everyByte())
		require.Equal(f, map[string]string{f.a.field: everyByte()}, f.fields(), "the lease is gone")
		f.requireTTL(time.Hour)
	}},
	{"fill/leaves what other releases have stored, but not of too many", func(f *fixture) {
		fill := func(v string) {
			token := NewToken()
			l := f.refresh(f.a, token)
			f.fill(f.a, token, v, ttl, l.Epoch, true)
		}
		fill("first")
		var others []any
		for i := range 15 {
			others = append(others, Schema{Codec: "json", Type: uint64(i)}.Field(), "old")
		}
		require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry(key), others...).Err())
		fill("second")
		require.Len(f, f.fields(), 16)
		require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry(key), "json.more", "old").Err())
		fill("third")
		require.Equal(f, map[string]string{f.a.field: "third"}, f.fields())
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
		l := f.refresh(f.a, token)
		f.fill(f.a, token, "new", ttl, l.Epoch, true)
		f.requireValue(f.a, "new")
		f.requireTTL(time.Hour)
	}},
}

var setSpecs = []spec{
	{"set/stores, and invalidates what was there", func(f *fixture) {
		f.put(f.a, "old", time.Hour)
		f.put(f.b, "other", time.Hour)
		token := NewToken()
		l := f.refresh(f.a, token)
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
