package remote

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// tagging is a fixture with a store whose values may have tags, and one whose values have none of its own.
type tagging struct {
	*fixture
	tagged, plain *Store
}

func newTagging(t *testing.T, rdb *redis.Client) *tagging {
	t.Helper()
	f := newFixture(t, rdb)
	opts := Options{Keys: f.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes}
	g := &tagging{fixture: f, plain: New(rdb, opts)}
	opts.Tagged = true
	g.tagged = New(rdb, opts)
	f.setEpoch(formatEpoch(1))
	return g
}

func (g *tagging) envelope(key, payload string, tags ...string) []byte {
	g.Helper()
	b, err := Envelope{Schema: schemaA, Epoch: 1, Expires: 1 << 40, Tagged: true, Tags: tags, Payload: []byte(payload)}.Encode(key)
	require.NoError(g, err)
	return b
}

// lease takes one for a load that begins now.
func (g *tagging) lease() Lease {
	g.Helper()
	l, err := g.tagged.Acquire(g.ctx(), key, NewToken(), Unwanted, ttl, "inbox")
	require.NoError(g, err)
	require.Equal(g, Acquired, l.Outcome)
	require.Regexp(g, `^[0-9a-f]{16}:\d+$`, l.AsOf)
	return l
}

func (g *tagging) fillAs(l Lease, payload string, tags ...string) bool {
	g.Helper()
	stored, err := g.tagged.FillWith(g.ctx(), Filling{
		Key: key, Token: l.Token, Envelope: g.envelope(key, payload, tags...), TTL: ttl, Epoch: 1, AsOf: l.AsOf,
	})
	require.NoError(g, err)
	return stored
}

func (g *tagging) store(payload string, tags ...string) {
	g.Helper()
	require.True(g, g.fillAs(g.lease(), payload, tags...))
}

func (g *tagging) invalidate(tags ...string) {
	g.Helper()
	require.NoError(g, g.tagged.InvalidateTags(g.ctx(), only, tags, []byte("message"))[0])
}

// requirePayload says what every way of reading finds, "" for nothing.
func (g *tagging) requirePayload(want string) {
	g.Helper()
	for _, s := range []*Store{g.tagged, g.plain} {
		b, err := s.Get(g.ctx(), key)
		require.NoError(g, err)
		g.requireDecoded(want, b)
		many := s.GetMany(g.ctx(), []string{"other", key})
		require.NoError(g, many[1].Err)
		g.requireDecoded(want, many[1].Value)
		require.Nil(g, many[0].Value)
		l, err := s.Acquire(g.ctx(), key, "00000000000000000000000000000000", Wanted, ttl, "inbox")
		require.NoError(g, err)
		if want == "" {
			require.NotEqual(g, Found, l.Outcome)
			require.NoError(g, s.Release(g.ctx(), key, "00000000000000000000000000000000", nil))
		} else {
			require.Equal(g, Found, l.Outcome)
			g.requireDecoded(want, l.Value)
		}
	}
}

func (g *tagging) requireDecoded(want string, b []byte) {
	g.Helper()
	if want == "" {
		require.Nil(g, b)
		return
	}
	require.NotNil(g, b)
	e, err := Decode(b, key)
	require.NoError(g, err)
	require.Equal(g, want, string(e.Payload))
}

func (g *tagging) counterKey() string { return g.keys.parts[0].prefix + "tags" }

func (g *tagging) del(redisKey string) {
	g.Helper()
	n, err := g.rdb.Del(g.ctx(), redisKey).Result()
	require.NoError(g, err)
	require.EqualValues(g, 1, n, redisKey)
}

func (g *tagging) setTo(redisKey string, value any) {
	g.Helper()
	require.NoError(g, g.rdb.Del(g.ctx(), redisKey).Err())
	if value == nil {
		require.NoError(g, g.rdb.LPush(g.ctx(), redisKey, "a list").Err())
		require.NoError(g, g.rdb.PExpire(g.ctx(), redisKey, ttl).Err())
		return
	}
	require.NoError(g, g.rdb.Set(g.ctx(), redisKey, value, ttl).Err())
}

var tagBehaviours = map[string]func(g *tagging){
	"an invalidation ends what has the tag": func(g *tagging) {
		for _, tags := range [][]string{{"red"}, {"red", "green"}, {"green", "red"}, {"blue", "green", "red", "white"}} {
			g.store("v", tags...)
			g.requirePayload("v")
			g.invalidate("another")
			g.requirePayload("v")
			g.invalidate("another", "red")
			g.requirePayload("")
			require.True(g, g.exists(g.keys.Entry(key)), "it costs nothing an entry")
		}
	},
	"no tags": func(g *tagging) {
		g.store("v")
		g.requirePayload("v")
		g.invalidate("red")
		g.requirePayload("v")
		require.NotContains(g, g.fields(), schemaA.Field()+tagSuffix)
	},
	"any bytes, and the most of them": func(g *tagging) {
		tags := make([]string, MaxTags)
		for i := range tags {
			tags[i] = fmt.Sprint(i) + strings.Repeat("\x00\xff :%", MaxTagBytes)[:MaxTagBytes-2]
		}
		g.store("v", tags...)
		g.requirePayload("v")
		g.invalidate(tags[MaxTags-1])
		g.requirePayload("")
	},
	"as many as a call takes": func(g *tagging) {
		tags := make([]string, MaxBatch)
		for i := range tags {
			tags[i] = fmt.Sprint(i)
		}
		g.store("v", "999")
		g.invalidate(tags...)
		g.requirePayload("")
	},
	"a load from before an invalidation stores nothing": func(g *tagging) {
		g.store("before", "red")
		l := g.lease()
		g.invalidate("red")
		require.False(g, g.fillAs(l, "old", "green", "red"))
		g.requirePayload("")
		g.store("new", "green", "red")
		g.requirePayload("new")
	},
	"nor of a tag that nobody had": func(g *tagging) {
		l := g.lease()
		g.invalidate("red")
		require.False(g, g.fillAs(l, "old", "red"))
		g.requirePayload("")
	},
	"a load from before an invalidation of another tag does": func(g *tagging) {
		g.store("before", "green")
		l := g.lease()
		g.invalidate("red")
		require.True(g, g.fillAs(l, "v", "green"))
		g.requirePayload("v")
	},
	"a version that is lost is a miss, and agrees with nothing later": func(g *tagging) {
		g.store("old", "red")
		g.del(g.keys.Tag(0, "red"))
		g.requirePayload("")
		g.invalidate("red")
		g.requirePayload("")
		g.store("new", "red") // makes a version
		g.del(g.keys.Tag(0, "red"))
		g.requirePayload("")
	},
	"an entry from before an invalidation, whose version was lost and made again": func(g *tagging) {
		g.store("old", "red")
		old := g.fields()
		g.invalidate("red")
		g.store("new", "red")
		require.NoError(g, g.rdb.HSet(g.ctx(), g.keys.Entry(key), old).Err())
		g.requirePayload("")
		g.del(g.keys.Tag(0, "red"))
		l := g.lease()
		require.True(g, g.fillAs(l, "newer", "red"))
		require.NoError(g, g.rdb.HSet(g.ctx(), g.keys.Entry(key), old).Err())
		g.requirePayload("")
	},
	"a version that is lost during a load": func(g *tagging) {
		g.store("v", "red", "green")
		l := g.lease()
		g.del(g.keys.Tag(0, "red"))
		require.True(g, g.fillAs(l, "nothing was invalidated", "red", "green"))
		l = g.lease()
		g.del(g.keys.Tag(0, "red"))
		g.invalidate("green")
		require.False(g, g.fillAs(l, "old", "red", "green"))
		l = g.lease()
		g.invalidate("green")
		g.del(g.keys.Tag(0, "red"))
		require.False(g, g.fillAs(l, "red may have been invalidated", "red"))
		g.requirePayload("")
	},
	"a counter that is lost refuses the loads of its time": func(g *tagging) {
		for range 5 {
			g.invalidate("another")
		}
		g.store("v", "red")
		l := g.lease()
		g.del(g.counterKey())
		g.requirePayload("v")
		require.False(g, g.fillAs(l, "old", "red"), "none")
		for range 5 {
			g.invalidate("another")
		}
		l = g.lease()
		g.del(g.counterKey())
		g.invalidate("red") // makes one, which counts from its beginning
		require.False(g, g.fillAs(l, "old", "red"), "another one")
		g.requirePayload("")
		g.store("new", "red")
		g.requirePayload("new")
	},
	"what was stored under an earlier counter stands, and is invalidated": func(g *tagging) {
		g.store("v", "red", "green")
		g.del(g.counterKey())
		g.store("v2", "red", "green")
		g.requirePayload("v2")
		g.invalidate("green")
		g.requirePayload("")
	},
	"Set": func(g *tagging) {
		for _, counted := range []bool{true, false} {
			if !counted {
				g.del(g.counterKey())
			} else {
				g.invalidate("red")
			}
			stored, err := g.tagged.Set(g.ctx(), key, g.envelope(key, "set", "red", "green"), ttl, 1, 1<<50, []byte("m"))
			require.NoError(g, err)
			require.True(g, stored)
			g.requirePayload("set")
			g.invalidate("green")
			g.requirePayload("")
		}
		many := g.tagged.SetMany(g.ctx(), []Setting{{Key: key, Envelope: g.envelope(key, "set", "red"), TTL: ttl, Epoch: 1, NotAfter: 1 << 50}})
		require.NoError(g, many[0].Err)
		g.requirePayload("set")
		g.invalidate("red")
		g.requirePayload("")
	},
	"Set without tags leaves none": func(g *tagging) {
		g.store("v", "red")
		stored, err := g.tagged.Set(g.ctx(), key, g.envelope(key, "set"), ttl, 1, 1<<50, []byte("m"))
		require.NoError(g, err)
		require.True(g, stored)
		g.invalidate("red")
		g.requirePayload("set")
	},
	"versions outlast their entries": func(g *tagging) {
		g.store("v", "red")
		require.Greater(g, g.pttl(g.keys.Tag(0, "red")), ttl)
		require.NoError(g, g.rdb.PExpire(g.ctx(), g.keys.Tag(0, "red"), ttl/2).Err())
		g.store("v", "red")
		require.Greater(g, g.pttl(g.keys.Tag(0, "red")), ttl)
	},
	"strangers under the keys": func(g *tagging) {
		for _, stray := range []any{"", "x", "0123456789abcdef:", "0123456789abcdef:12345678901234567", nil} {
			g.store("v", "red", "green")
			g.setTo(g.keys.Tag(0, "red"), stray)
			g.requirePayload("")
			g.invalidate("red")
			g.store("v", "red", "green")
			g.requirePayload("v")
			l := g.lease()
			g.setTo(g.counterKey(), stray)
			require.False(g, g.fillAs(l, "v", "red"))
			g.invalidate("red")
			g.store("v", "red")
			g.requirePayload("v")
		}
		require.NoError(g, g.rdb.HDel(g.ctx(), g.keys.Entry(key), schemaA.Field()+tagSuffix).Err())
		g.requirePayload("")
	},
	"an envelope whose tags are cut": func(g *tagging) {
		whole := g.envelope(key, "v", "red", "green")
		for n := range whole {
			l := g.lease()
			_, err := g.tagged.FillWith(g.ctx(), Filling{Key: key, Token: l.Token, Envelope: whole[:n], TTL: ttl, Epoch: 1, AsOf: l.AsOf})
			require.NoError(g, err)
			_, err = g.plain.Get(g.ctx(), key)
			require.NoError(g, err)
			_, err = g.tagged.Get(g.ctx(), key)
			require.NoError(g, err)
		}
	},
	"a wrong type is told": func(g *tagging) {
		g.setTo(g.keys.Entry(key), "a string")
		_, err := g.tagged.Get(g.ctx(), key)
		require.ErrorIs(g, err, ErrWrongType)
		require.ErrorIs(g, g.tagged.GetMany(g.ctx(), []string{key})[0].Err, ErrWrongType)
	},
	"the message": func(g *tagging) {
		e := g.listen(g.channel())
		g.invalidate("red", "green")
		require.Equal(g, g.channel()+" message", e.next())
	},
	"what it costs": func(g *tagging) {
		g.store("v", "red")
		g.requirePayload("v") // the scripts are known
		before := g.tagged.Commands()
		_, err := g.tagged.Get(g.ctx(), key)
		require.NoError(g, err)
		g.tagged.GetMany(g.ctx(), []string{key})
		require.EqualValues(g, 2, g.tagged.Commands()-before)
		before = g.plain.Commands()
		_, err = g.plain.Get(g.ctx(), key)
		require.NoError(g, err)
		g.plain.GetMany(g.ctx(), []string{key})
		require.EqualValues(g, 4, g.plain.Commands()-before, "it did not expect tags")
	},
}

func TestTags(t *testing.T) {
	t.Parallel()
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			rdb := server.start(t)
			for name, behaviour := range tagBehaviours {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					behaviour(newTagging(t, rdb))
				})
			}
		})
	}
}

func TestEnvelopesTellTags(t *testing.T) {
	t.Parallel()
	for _, e := range []Envelope{
		{Schema: schemaA, Tagged: true},
		{Schema: schemaA, Tagged: true, Payload: []byte("p")},
		{Schema: schemaA, Tagged: true, Tags: []string{"red"}},
		{Schema: schemaA, Tagged: true, Tags: []string{"red", strings.Repeat("x", MaxTagBytes)}, Payload: []byte("p")},
	} {
		b, err := e.Encode(key)
		require.NoError(t, err)
		got, err := Decode(b, key)
		require.NoError(t, err)
		if len(got.Payload) == 0 {
			got.Payload = nil
		}
		require.Equal(t, e, got)
		require.Equal(t, len(e.Tags) > 0, tellsTags(b))
		require.Len(t, b, headerBytes+len(schemaA.Codec)+TagsOverhead(e.Tags)+len(e.Payload))
	}
	for _, e := range []Envelope{
		{Schema: schemaA, Tags: []string{"red"}},
		{Schema: schemaA, Tagged: true, Absent: true},
		{Schema: schemaA, Tagged: true, Tags: []string{""}},
		{Schema: schemaA, Tagged: true, Tags: []string{strings.Repeat("x", MaxTagBytes+1)}},
		{Schema: schemaA, Tagged: true, Tags: make([]string, MaxTags+1)},
	} {
		_, err := e.Encode(key)
		require.ErrorIs(t, err, ErrTag)
	}
}

// Bytes that somebody else has written, with a checksum that holds, are read within their bounds.
func TestDecodeOfTags(t *testing.T) {
	t.Parallel()
	b, err := Envelope{Schema: schemaA, Tagged: true, Tags: []string{"red", "green"}}.Encode(key)
	require.NoError(t, err)
	at := headerBytes + len(schemaA.Codec)
	spoil := func(change func([]byte) []byte) error {
		s := change(append([]byte(nil), b...))
		sum := checksum(s, key)
		for i := range 8 {
			s[offChecksum+i] = byte(sum >> (56 - 8*i))
		}
		_, err := Decode(s, key)
		return err
	}
	require.NoError(t, spoil(func(s []byte) []byte { return s }))
	for n := at; n < len(b); n++ {
		require.ErrorIs(t, spoil(func(s []byte) []byte { return s[:n] }), ErrForeign, n)
	}
	require.ErrorIs(t, spoil(func(s []byte) []byte { s[at] = MaxTags + 1; return s }), ErrForeign)
	require.ErrorIs(t, spoil(func(s []byte) []byte { s[at+1] = 0; return s }), ErrForeign)
	require.ErrorIs(t, spoil(func(s []byte) []byte { s[at+1] = 255; return s }), ErrForeign)
	require.ErrorIs(t, spoil(func(s []byte) []byte { s[3] |= flagAbsent; return s }), ErrForeign)
	require.ErrorIs(t, spoil(func(s []byte) []byte { s[3] |= 4; return s }), ErrForeign)
}

func TestCommandsOfTagsAreCounted(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} { // whether the server has the scripts
		rdb := servers[0].start(t)
		g := newTagging(t, rdb)
		if known {
			g.store("v", "red")
			g.requirePayload("v")
			g.invalidate("red")
		}
		var sent sentCommands
		rdb.AddHook(&sent)
		before := g.tagged.Commands() + g.plain.Commands()
		g.store("v", "red")
		for _, s := range []*Store{g.tagged, g.plain} {
			for range 2 {
				_, err := s.Get(g.ctx(), key)
				require.NoError(t, err)
				s.GetMany(g.ctx(), []string{key, "other", key})
			}
		}
		g.invalidate("red")
		require.Equal(t, sent.n.Load(), g.tagged.Commands()+g.plain.Commands()-before)
	}
}

// sentCommands counts those in pipelines too, and not what makes a connection ready.
type sentCommands struct{ sent }

func (s *sentCommands) count(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		switch cmd.Name() {
		case "evalsha", "eval", "hget":
			s.n.Add(1)
		}
	}
}

func (s *sentCommands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.count(cmd)
		return next(ctx, cmd)
	}
}

func (s *sentCommands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.count(cmds...)
		return next(ctx, cmds)
	}
}
