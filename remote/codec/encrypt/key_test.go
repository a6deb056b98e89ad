package encrypt_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/encrypt"
)

func TestNewKey_Errors(t *testing.T) {
	t.Parallel()
	good := secret(1)
	for name, tc := range map[string]struct {
		id     string
		secret []byte
		want   string
	}{
		"no id":        {"", good, "its id has 0 bytes"},
		"long id":      {strings.Repeat("a", 17), good, "its id has 17 bytes"},
		"bad id":       {"Key", good, "a-z"},
		"no secret":    {"a", nil, "0 bytes, it must have 32"},
		"short secret": {"a", good[:16], "16 bytes, it must have 32"},
		"hex":          {"a", []byte(hex.EncodeToString(good)), "64 bytes, it must have 32; one in hex or base64 has to be decoded first"},
		"half in hex":  {"a", []byte(hex.EncodeToString(good)[:32]), "is text"},
		"password":     {"a", []byte("correct horse battery staple 123"), "is text"},
		"zeros":        {"a", make([]byte, 32), "does not look random"},
		"padded":       {"a", append([]byte("password!"), make([]byte, 23)...), "does not look random"},
	} {
		_, err := encrypt.NewKey(tc.id, tc.secret)
		require.ErrorIs(t, err, encrypt.ErrKey, name)
		require.ErrorContains(t, err, tc.want, name)
		if len(tc.secret) > 0 {
			requireNoSecret(t, tc.secret, err.Error())
		}
	}
}

func TestNewKey_CopiesTheSecret(t *testing.T) {
	t.Parallel()
	s := secret(1)
	k, err := encrypt.NewKey("a", s)
	require.NoError(t, err)
	clear(s)
	b, err := encrypting(t, codec.Raw, k).MarshalEntry(entry, "x")
	require.NoError(t, err)
	var out string
	require.NoError(t, encrypting(t, codec.Raw, newKey(t, "a", 1)).UnmarshalEntry(entry, b, &out))
	require.Equal(t, "a", k.ID())
}

// TestKey_IsNeverPrinted prints what has a key in it in every way that Go has.
func TestKey_IsNeverPrinted(t *testing.T) {
	t.Parallel()
	k := newKey(t, "the-id", 1)
	type config struct {
		Name   string
		Key    encrypt.Key
		KeyPtr *encrypt.Key
		hidden encrypt.Key
		Keys   []encrypt.Key
	}
	c := encrypting(t, codec.Raw, k)
	for _, v := range []any{k, &k, []encrypt.Key{k}, map[string]encrypt.Key{"a": k}, config{"n", k, &k, k, []encrypt.Key{k}}, &config{hidden: k}, c, *c} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U", "%t", "%e", "%p", "%T"} {
			requireNoSecret(t, secret(1), fmt.Sprintf(verb, v))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		requireNoSecret(t, secret(1), log.String())
		if b, err := json.Marshal(v); err == nil {
			requireNoSecret(t, secret(1), string(b))
		}
	}
	for _, got := range []string{k.String(), k.GoString(), fmt.Sprint(k), fmt.Sprintf("%#v", k), fmt.Sprintf("%x", k), k.LogValue().String()} {
		require.Equal(t, "encrypt.Key(the-id)", got)
	}
	text, err := k.MarshalText()
	require.NoError(t, err)
	require.Equal(t, k.String(), string(text))
}

// requireNoSecret fails if four bytes in a row of the secret are in the text, raw or in one of the forms that fmt has.
func requireNoSecret(t *testing.T, secret []byte, text string) {
	t.Helper()
	for i := range len(secret) - 3 {
		part := secret[i : i+4]
		for _, format := range []string{"%s", "%x", "%X", "%d", "%o", "%#v", "%q", "%c", "%U"} {
			form := strings.Trim(fmt.Sprintf(format, part), "[]\"")
			form = strings.TrimSuffix(strings.TrimPrefix(form, "byte{"), "}")
			require.NotContains(t, text, form)
		}
	}
}
