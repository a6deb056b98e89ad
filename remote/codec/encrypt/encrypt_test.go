package encrypt_test

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
	"github.com/tandemcache/tandem/remote/codec/encrypt"
	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// secret returns 32 bytes that differ for each n.
func secret(n byte) []byte {
	b := make([]byte, encrypt.KeyBytes)
	for i := range b {
		b[i] = byte(i)*7 + n + 128
	}
	return b
}

func newKey(t testing.TB, id string, n byte) encrypt.Key {
	t.Helper()
	k, err := encrypt.NewKey(id, secret(n))
	require.NoError(t, err)
	return k
}

func encrypting(t testing.TB, inner codec.Codec, first encrypt.Key, others ...encrypt.Key) *encrypt.Codec {
	t.Helper()
	c, err := encrypt.New(inner, first, others...)
	require.NoError(t, err)
	return c
}

var entry = codec.Entry{Cache: "users", Key: "1", Type: 42}

func TestName_IsPinned(t *testing.T) {
	t.Parallel()
	k := newKey(t, "a", 1)
	require.Equal(t, "cbor-1-e1", encrypting(t, codec.Default, k).Name())
	z, err := compress.New(codec.Default, compress.Options{})
	require.NoError(t, err)
	require.Equal(t, "cbor-1-z1-e1", encrypting(t, z, k).Name())
}

func TestNew_Errors(t *testing.T) {
	t.Parallel()
	a, b := newKey(t, "a", 1), newKey(t, "b", 2)
	_, err := encrypt.New(nil, a)
	require.Error(t, err)
	_, err = encrypt.New(codec.Raw, encrypt.Key{})
	require.ErrorIs(t, err, encrypt.ErrKey)
	_, err = encrypt.New(codec.Raw, a, b, encrypt.Key{})
	require.ErrorContains(t, err, "number 3 was not made by NewKey")
	_, err = encrypt.New(codec.Raw, a, b, newKey(t, "a", 3))
	require.ErrorIs(t, err, encrypt.ErrKey)
	require.ErrorContains(t, err, "two keys have the id a")
	_, err = encrypt.New(named{codec.Raw}, a)
	require.ErrorContains(t, err, `"fourteen-bytes-e1"`)
}

type named struct{ codec.Codec }

func (named) Name() string { return "fourteen-bytes" }

func TestCodec_IsTransparent(t *testing.T) {
	t.Parallel()
	c := encrypting(t, codec.Default, newKey(t, "a", 1))
	require.NoError(t, codec.Check(c, reflect.TypeFor[user]()))
	require.Error(t, codec.Check(c, reflect.TypeFor[chan int]()))
	require.Equal(t, codec.Fingerprint(codec.Default, reflect.TypeFor[user]()), codec.Fingerprint(c, reflect.TypeFor[user]()))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := encrypting(t, codec.Raw, newKey(t, "a", 1))
	for _, text := range []string{"", "x", "a secret of some length"} {
		b, err := codec.MarshalFor(c, entry, text)
		require.NoError(t, err)
		require.Len(t, b, 2+1+24+16+len(text))
		if len(text) > 8 { // a shorter one may be there by chance
			require.NotContains(t, string(b[27:]), text)
		}
		before := bytes.Clone(b)
		var out string
		require.NoError(t, codec.UnmarshalFor(c, entry, b, &out))
		require.Equal(t, text, out)
		require.Equal(t, before, b, "data must stay as it is")

		again, err := codec.MarshalFor(c, entry, text)
		require.NoError(t, err)
		require.NotEqual(t, b[3:27], again[3:27], "the nonce")
		require.NotEqual(t, b[27:], again[27:])
	}
}

// TestWithoutAnEntry_Fails: bytes that are not bound to an entry must not come about by mistake.
func TestWithoutAnEntry_Fails(t *testing.T) {
	t.Parallel()
	c := encrypting(t, codec.Raw, newKey(t, "a", 1))
	_, err := c.Marshal("x")
	require.ErrorIs(t, err, encrypt.ErrNoEntry)
	require.ErrorIs(t, c.Unmarshal(nil, new(string)), encrypt.ErrNoEntry)
}

func TestBytesAreBoundToTheirEntry(t *testing.T) {
	t.Parallel()
	k := newKey(t, "a", 1)
	c := encrypting(t, codec.Raw, k)
	b, err := c.MarshalEntry(entry, "x")
	require.NoError(t, err)
	var out string
	for name, other := range map[string]codec.Entry{
		"key":                 {Cache: "users", Key: "2", Type: 42},
		"cache":               {Cache: "admins", Key: "1", Type: 42},
		"type":                {Cache: "users", Key: "1", Type: 43},
		"none":                {},
		"bytes that moved":    {Cache: "user", Key: "s1", Type: 42},
		"bytes that moved on": {Cache: "users1", Key: "", Type: 42},
	} {
		require.ErrorIs(t, c.UnmarshalEntry(other, b, &out), encrypt.ErrNotAuthentic, name)
	}
	// The same secret under another id, and the same key around another codec, are others too.
	again, err := encrypt.NewKey("b", secret(1))
	require.NoError(t, err)
	renamed := bytes.Clone(b)
	renamed[2] = 'b'
	require.ErrorIs(t, encrypting(t, codec.Raw, again).UnmarshalEntry(entry, renamed, &out), encrypt.ErrNotAuthentic)
	require.ErrorIs(t, encrypting(t, codec.JSON, k).UnmarshalEntry(entry, b, &out), encrypt.ErrNotAuthentic)
	require.NoError(t, c.UnmarshalEntry(entry, b, &out))
}

func TestWrappersPassTheEntryOn(t *testing.T) {
	t.Parallel()
	inner := encrypting(t, codec.Raw, newKey(t, "a", 1))
	outside, err := compress.New(inner, compress.Options{})
	require.NoError(t, err)
	twice := encrypting(t, inner, newKey(t, "b", 2))
	for _, c := range []codec.Codec{outside, twice, codec.Versioned(inner, 2)} {
		b, err := codec.MarshalFor(c, entry, "x")
		require.NoError(t, err)
		var out string
		require.NoError(t, codec.UnmarshalFor(c, entry, b, &out))
		require.Equal(t, "x", out)
		require.ErrorIs(t, codec.UnmarshalFor(c, codec.Entry{Cache: "users", Key: "2", Type: 42}, b, &out), encrypt.ErrNotAuthentic)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "2026-01", 1), newKey(t, "2026-02", 2)
	releases := []*encrypt.Codec{
		encrypting(t, codec.Raw, first),
		encrypting(t, codec.Raw, first, second),
		encrypting(t, codec.Raw, second, first),
		encrypting(t, codec.Raw, second),
	}
	for i, from := range releases {
		b, err := from.MarshalEntry(entry, "x")
		require.NoError(t, err)
		for j, to := range releases {
			var out string
			err := to.UnmarshalEntry(entry, b, &out)
			if i < 2 && j == 3 || i > 1 && j == 0 {
				require.ErrorIs(t, err, encrypt.ErrUnknownKey, "%d to %d", i, j)
				continue
			}
			require.NoError(t, err, "%d to %d", i, j)
			require.Equal(t, "x", out)
		}
	}
	// A second secret under a known id is no other key, but a mistake: not authentic.
	b, err := releases[0].MarshalEntry(entry, "x")
	require.NoError(t, err)
	require.ErrorIs(t, encrypting(t, codec.Raw, newKey(t, "2026-01", 3)).UnmarshalEntry(entry, b, new(string)), encrypt.ErrNotAuthentic)
}

func TestEveryChangedByteIsSeen(t *testing.T) {
	t.Parallel()
	c := encrypting(t, codec.Raw, newKey(t, "a", 1), newKey(t, "c", 2))
	b, err := c.MarshalEntry(entry, "some text")
	require.NoError(t, err)
	var out string
	for i := range b {
		require.Error(t, c.UnmarshalEntry(entry, b[:i], &out), "cut at %d", i)
		for bit := range 8 {
			b[i] ^= 1 << bit
			require.Error(t, c.UnmarshalEntry(entry, b, &out), "byte %d", i)
			b[i] ^= 1 << bit
		}
	}
	require.Error(t, c.UnmarshalEntry(entry, append(bytes.Clone(b), 0), &out))
	require.NoError(t, c.UnmarshalEntry(entry, b, &out))
}

func TestErrorsHoldNoMoreThanTheID(t *testing.T) {
	t.Parallel()
	c := encrypting(t, codec.Raw, newKey(t, "a", 1))
	long := append([]byte{1, 255}, bytes.Repeat([]byte{'z'}, 1000)...)
	require.EqualError(t, c.UnmarshalEntry(entry, long, new(string)), `codec raw-e1: decrypt: encrypted under an unknown key: id "zzzzzzzzzzzzzzzz"`)
}

// storedHex is what a release in use has written for entry, under the key "a".
const storedHex = "0101615e12e87166257f04c79e2c1aa1ada497678acc8a0f1e8d28c3f727cee4d9f3a46a1d4d35a562c99153"

func TestFormat_IsPinned(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString(storedHex)
	require.NoError(t, err)
	var out string
	require.NoError(t, encrypting(t, codec.Raw, newKey(t, "a", 1)).UnmarshalEntry(entry, b, &out))
	require.Equal(t, "x", out)
}

func FuzzUnmarshal(f *testing.F) {
	c := encrypting(f, codec.Raw, newKey(f, "a", 1), newKey(f, "b", 2))
	genuine, err := hex.DecodeString(storedHex)
	require.NoError(f, err)
	f.Add(genuine)
	f.Add([]byte{1, 1, 'b'})
	f.Fuzz(func(t *testing.T, data []byte) {
		var out string
		if !bytes.Equal(data, genuine) {
			require.Error(t, c.UnmarshalEntry(entry, data, &out), "nobody guesses a tag")
		}
	})
}
