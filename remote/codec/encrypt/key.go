package encrypt

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/tandemcache/tandem/remote/codec"
)

// KeyBytes is the length of a key's secret.
const KeyBytes = chacha20poly1305.KeySize

// ErrKey is returned by NewKey and New for keys that cannot be used, wrapped in an error that says why and holds nothing
// of the secret.
var ErrKey = errors.New("unusable encryption key")

// Key is a secret with an id. Its methods for printing and logging show the id only, and so does what prints a struct that
// has a Key in it.
type Key struct {
	id string
	// aead is a function because nothing that walks through values, as fmt, log/slog and testify do, can look into one.
	aead func() cipher.AEAD
}

// NewKey returns the key with the given id and secret, which it copies.
//
// The id, 1 to 16 bytes of a-z, 0-9 and -, is stored in clear in each entry and says which key opens it: give each secret
// an id of its own, once and for all. The secret is 32 bytes from a random generator, such as crypto/rand; a password or a
// text is not a secret in that sense. NewKey returns ErrKey, wrapped, for others.
func NewKey(id string, secret []byte) (Key, error) {
	switch {
	case !codec.ValidName(id):
		return Key{}, fmt.Errorf("%w: its id has %d bytes, it must be 1 to 16 of a-z, 0-9 and -", ErrKey, len(id))
	case len(secret) != KeyBytes:
		return Key{}, fmt.Errorf("%w: %s: the secret has %d bytes, it must have %d; one in hex or base64 has to be decoded first", ErrKey, id, len(secret), KeyBytes)
	case isText(secret):
		return Key{}, fmt.Errorf("%w: %s: the secret is text; one in hex or base64 has to be decoded first, a password is none", ErrKey, id)
	case !isRandom(secret):
		return Key{}, fmt.Errorf("%w: %s: the secret does not look random: it has only few different bytes", ErrKey, id)
	}
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %s: %w", ErrKey, id, err)
	}
	return Key{id: id, aead: func() cipher.AEAD { return aead }}, nil
}

// isText reports whether b can be typed. Of 32 random bytes, all can in one case of 10^13.
func isText(b []byte) bool {
	for _, x := range b {
		if x < ' ' || x > '~' {
			return false
		}
	}
	return true
}

// isRandom reports whether b can be what a random generator gave: of 32 random bytes about 30 differ, and fewer than 16 do
// in one case of 10^15.
func isRandom(b []byte) bool {
	seen := map[byte]bool{}
	for _, x := range b {
		seen[x] = true
	}
	return len(seen) >= len(b)/2
}

// ID returns the key's id.
func (k Key) ID() string { return k.id }

// String returns the id, and nothing of the secret.
func (k Key) String() string { return "encrypt.Key(" + k.id + ")" }

// GoString returns the same as String.
func (k Key) GoString() string { return k.String() }

// Format implements fmt.Formatter for every verb: the same as String.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue implements slog.LogValuer: the same as String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns the same as String, for encoders such as encoding/json. There is no way back.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
