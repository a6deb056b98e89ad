package inspect_test

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/inspect"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	redisKey = "tandem:{users}:k:42"
	epochKey = "tandem:{users}:epoch"
)

// at is the time of the Redis in these tests.
var at = time.UnixMilli(1_700_000_000_000)

func newRedis(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	m := miniredis.RunT(t)
	m.SetTime(at)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	require.NoError(t, m.Set(epochKey, remote.EpochText(7)+":+"))
	return m, rdb
}

func source(t *testing.T, rdb *redis.Client) inspect.Source {
	t.Helper()
	keys, err := remote.KeysFor("users")
	require.NoError(t, err)
	return inspect.Source{Redis: rdb, Clock: rdb, Keys: keys}
}

func read(t *testing.T, rdb *redis.Client) (*inspect.Entry, string) {
	t.Helper()
	e, err := inspect.Read(t.Context(), source(t, rdb), "users", "42")
	require.NoError(t, err)
	var out bytes.Buffer
	e.Print(&out)
	require.NotContains(t, out.String(), "\x1b")
	for line := range strings.Lines(out.String()) {
		require.Less(t, len(line), 700)
	}
	return e, out.String()
}

func envelope(t *testing.T, c codec.Codec, v any, change func(*remote.Envelope)) (field, value string) {
	t.Helper()
	payload, err := c.Marshal(v)
	require.NoError(t, err)
	env := remote.Envelope{
		Schema: remote.Schema{Codec: c.Name(), Type: 0xabc}, Epoch: 7, Payload: payload,
		Created: at.Add(-5 * time.Second).UnixMilli(), Expires: at.Add(time.Minute).UnixMilli(),
	}
	if change != nil {
		change(&env)
	}
	b, err := env.Encode("42")
	require.NoError(t, err)
	return env.Schema.Field(), string(b)
}

func TestStates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*remote.Envelope)
		state  inspect.State
		says   []string
	}{
		"live":        {nil, inspect.StateLive, []string{"state        live", "age          5s", "expires      in 1m0s", "the current one", `"a"`}},
		"invalidated": {func(e *remote.Envelope) { e.Epoch = 8 }, inspect.StateInvalidated, []string{"not the current one"}},
		"expired":     {func(e *remote.Envelope) { e.Expires = at.UnixMilli() - 3000 }, inspect.StateExpired, []string{"3s ago"}},
		"absent": {
			func(e *remote.Envelope) { e.Absent, e.Payload = true, nil },
			inspect.StateLive, []string{"known not to exist"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, rdb := newRedis(t)
			field, value := envelope(t, codec.JSON, "a", c.change)
			m.HSet(redisKey, field, value)
			e, out := read(t, rdb)
			require.Len(t, e.Schemas, 1)
			require.Equal(t, c.state, e.Schemas[0].State)
			for _, want := range c.says {
				require.Contains(t, out, want)
			}
		})
	}
}

func TestWithoutAnEpochNothingIsLive(t *testing.T) {
	t.Parallel()
	for _, epoch := range []string{"", "garbage"} {
		m, rdb := newRedis(t)
		m.Del(epochKey)
		if epoch != "" {
			require.NoError(t, m.Set(epochKey, epoch))
		}
		field, value := envelope(t, codec.JSON, "a", nil)
		m.HSet(redisKey, field, value)
		e, out := read(t, rdb)
		require.Equal(t, inspect.StateInvalidated, e.Schemas[0].State)
		require.Contains(t, out, "nothing of this cache is live")
	}
}

func TestForeignBytes(t *testing.T) {
	t.Parallel()
	m, rdb := newRedis(t)
	field, value := envelope(t, codec.JSON, "a", nil)
	broken := []byte(value)
	broken[len(broken)-1] ^= 1
	for n, bytes := range []string{string(broken), value[:len(value)-1], "", "TD", "\x1b[31m", strings.Repeat("x", 5000)} {
		m.HSet(redisKey, fmt.Sprintf("json.%016x", n), bytes)
	}
	m.HSet(redisKey, "json.00000000000000ff", value) // of another schema's field
	m.HSet(redisKey, "\x1b[31m field", "x")
	m.HSet(redisKey, field+".l", "\x1b[31m lease")
	e, out := read(t, rdb)
	require.Len(t, e.Schemas, 8)
	require.Equal(t, []string{"\x1b[31m field"}, e.Foreign)
	states := map[inspect.State]int{}
	for _, s := range e.Schemas {
		states[s.State]++
	}
	require.Equal(t, map[inspect.State]int{
		inspect.StateCorrupt: 2, inspect.StateForeign: 5, inspect.StateNone: 1,
	}, states)
	require.Contains(t, out, "the envelope is of the schema")
	require.Contains(t, out, "not a lease")
}

func TestTags(t *testing.T) {
	t.Parallel()
	tagged := func(e *remote.Envelope) { e.Tagged, e.Tags = true, []string{"red", "\x1b[31m"} }
	for name, c := range map[string]struct {
		change   func(*remote.Envelope)
		versions string // beside the value
		red      string // the tag's version now
		state    inspect.State
		says     string
	}{
		"none":              {func(e *remote.Envelope) { e.Tagged = true }, "", "a:1", inspect.StateLive, "tags         none\n"},
		"standing":          {tagged, "a:1 a:2", "a:1", inspect.StateLive, `tags         red, "\x1b[31m"` + "\n"},
		"invalidated":       {tagged, "a:1 a:2", "a:3", inspect.StateInvalidated, "invalidated, by a tag"},
		"lost":              {tagged, "a:1 a:2", "", inspect.StateInvalidated, "tags         red (invalidated), "},
		"no versions":       {tagged, "", "a:1", inspect.StateInvalidated, "red (invalidated), "},
		"versions too many": {tagged, "a:1 a:2 a:3", "a:1", inspect.StateInvalidated, "red (invalidated), "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, rdb := newRedis(t)
			field, value := envelope(t, codec.JSON, "a", c.change)
			m.HSet(redisKey, field, value)
			require.NoError(t, m.Set("tandem:{users}:t:\x1b[31m", "a:2"))
			if c.versions != "" {
				m.HSet(redisKey, field+".t", c.versions)
			}
			if c.red != "" {
				require.NoError(t, m.Set("tandem:{users}:t:red", c.red))
			}
			e, out := read(t, rdb)
			require.Equal(t, c.state, e.Schemas[0].State)
			require.Contains(t, out, c.says)
			require.Empty(t, e.Foreign)
		})
	}
}

func TestLeaseAndWaiters(t *testing.T) {
	t.Parallel()
	m, rdb := newRedis(t)
	token := strings.Repeat("0123456789abcdef", 2)
	m.HSet(redisKey, "cbor-1.0000000000000abc.l", fmt.Sprintf("%013d:%s", at.UnixMilli()+1500, token))
	m.HSet(redisKey, "cbor-1.0000000000000abc.w", "tandem:inst:aa:0 tandem:inst:bb:0 ")
	m.HSet(redisKey, "json.0000000000000abc.l", fmt.Sprintf("%013d:%s", at.UnixMilli()-1500, token))
	e, out := read(t, rdb)
	require.Len(t, e.Schemas, 2)
	require.Equal(t, &inspect.Lease{Holder: "01234567", Remaining: 1500}, e.Schemas[0].Lease)
	require.Equal(t, []string{"tandem:inst:aa:0", "tandem:inst:bb:0"}, e.Schemas[0].Waiters)
	require.EqualValues(t, -1500, e.Schemas[1].Lease.Remaining)
	require.Contains(t, out, "held by 01234567..., 1.5s left")
	require.Contains(t, out, "waiting      2: ")
	require.Contains(t, out, "ended 1.5s ago")
	require.NotContains(t, out, token)
}

func TestOtherRedisTypes(t *testing.T) {
	t.Parallel()
	m, rdb := newRedis(t)
	require.NoError(t, m.Set(redisKey, "something else"))
	e, out := read(t, rdb)
	require.Equal(t, "string", e.Type)
	require.Contains(t, out, "not an entry of tandem")
	require.Contains(t, out, "none, which tandem never leaves")

	m.Del(redisKey)
	for n := range 200 {
		m.HSet(redisKey, fmt.Sprint(n), "x")
	}
	_, out = read(t, rdb)
	require.Contains(t, out, "a hash of 200 fields")

	m.Del(redisKey)
	_, err := inspect.Read(t.Context(), source(t, rdb), "users", "42")
	require.ErrorIs(t, err, inspect.ErrNothing)
	_, err = inspect.Read(t.Context(), source(t, rdb), "users", "")
	require.ErrorIs(t, err, remote.ErrKey)
}

func TestValues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		codec codec.Codec
		value any
		says  string
	}{
		"struct":           {codec.Default, struct{ A, B int }{1, 2}, "{\n        \"A\": 1,\n        \"B\": 2\n      }"},
		"bytes as text":    {codec.Default, []byte("text"), `"text"`},
		"bytes as hex":     {codec.Default, []byte{1, 2, 0xff}, `"0x0102ff"`},
		"big integer":      {codec.Default, new(big.Int).Lsh(big.NewInt(1), 70), "1180591620717411303424"},
		"large integer":    {codec.Default, int64(math.MaxInt64), "9223372036854775807"},
		"NaN":              {codec.Default, math.NaN(), `"NaN"`},
		"time":             {codec.Default, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "2026-01-02T03:04:05.000000006Z"},
		"integers as keys": {codec.Default, map[int]string{1: "one"}, `{1: "one"}`},
		"nested":           {codec.Default, map[string]any{"a": []any{int64(1), "<b>", nil}}, "\"<b>\""},
		"an escape":        {codec.Default, "\u009b31m", `0xc29b33316d`},
		"json":             {codec.JSON, map[string]any{"n": 1.5}, "\"n\": 1.5"},
		"raw text":         {codec.Raw, "line one\nline two", "line one\n      line two"},
		"raw bytes":        {codec.Raw, []byte{0xfe, 0xed}, "0xfeed"},
		"raw and long":     {codec.Raw, strings.Repeat("é", 4000), "more bytes"},
		"raw, long, bytes": {codec.Raw, bytes.Repeat([]byte{0x80}, 5000), "... 904 more bytes"},
		"many lines":       {codec.JSON, make([]int, 100), "(-json shows all)"},
		"a long line":      {codec.JSON, strings.Repeat("x", 1000), "(-json shows all)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, rdb := newRedis(t)
			field, value := envelope(t, c.codec, c.value, nil)
			m.HSet(redisKey, field, value)
			_, out := read(t, rdb)
			require.Contains(t, out, c.says)
		})
	}
}

func TestPayloadsThatAreNotWhatTheCodecWrites(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"json", "cbor-1", "theirs"} {
		m, rdb := newRedis(t)
		field, value := envelope(t, codec.Raw, "{\x00", func(e *remote.Envelope) { e.Schema.Codec = name })
		m.HSet(redisKey, field, value)
		e, out := read(t, rdb)
		require.Equal(t, inspect.StateLive, e.Schemas[0].State)
		require.NotEmpty(t, e.Schemas[0].Value.Error)
		require.Contains(t, out, "not decoded")
		require.Contains(t, out, "0x7b00")
	}
}
