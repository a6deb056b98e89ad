package remote

import (
	"slices"
	"strings"
	"testing"
	"time"

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
