// Package encrypt wraps a codec so that values are encrypted in Redis, by XChaCha20-Poly1305.
//
// Whoever reads Redis, its files or the network between learns nothing of a value but its length; whoever writes there
// cannot make up one, nor pass off that of one entry, cache or type as another's: these are misses. What an attacker who
// can write to Redis can still do is what any write there can: delete entries, bring back an older value of the same
// entry, keep an old one from expiring, and mark a key as not found. Keys, caches' names, times and sizes are in clear.
// So are values in the memory of the process.
//
// # Rotation
//
// The first key encrypts and every key decrypts. An entry under another key is a miss, and is replaced. To rotate without
// a wave of misses, and without releases that replace each other's entries, deploy three times:
//
//  1. encrypt.New(inner, old, new): every instance can read what the new key will encrypt;
//  2. encrypt.New(inner, new, old): the new key encrypts;
//  3. encrypt.New(inner, new): after the longest TTL, the old key is of no more use.
//
// Where the old key is known to others, go to the last step at once.
//
// # Nonces
//
// Two messages under one key and one nonce would give both away. Each message has a nonce of 192 bits from crypto/rand,
// which needs no state that instances share or that outlives a restart: after 2^64 messages of one key, far more than any
// fleet writes, the chance that two nonces were equal is about 2^-65. The 96 bits of AES-GCM would allow only 2^32
// messages a key, days of a busy cache.
package encrypt

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/tandemcache/tandem/remote/codec"
)

var (
	// ErrNoEntry is returned by Marshal and Unmarshal, which are not told for which entry: MarshalEntry and UnmarshalEntry
	// are, and a tiered.Cache calls those.
	ErrNoEntry = errors.New("a value is encrypted for one entry, and none is named: use codec.MarshalFor and UnmarshalFor")
	// ErrUnknownKey is returned, wrapped, for bytes under a key that the codec does not have.
	ErrUnknownKey = errors.New("encrypted under an unknown key")
	// ErrNotAuthentic is returned, wrapped, for bytes that are not what this codec wrote for this entry.
	ErrNotAuthentic = errors.New("changed, or of another entry")
)

// The bytes of an encrypted value:
//
//	0    1  format, 1
//	1    1  length of the key's id
//	2    n  key's id
//	..  24  nonce
//	..      ciphertext and tag of 16 bytes
//
// Authenticated with it is what additional returns.
const (
	format   = 1
	offID    = 2
	overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// suffix follows the inner codec's name. It changes with the format.
const suffix = "-e1"

// Codec encrypts what another codec encodes. Its methods are safe for concurrent use.
type Codec struct {
	inner codec.Codec
	name  string
	first Key
	keys  map[string]Key
}

// New returns a codec that encrypts what inner encodes with the first key, and decrypts what was encrypted with any of them.
// Its name is inner's with "-e1" after it. It returns ErrKey, wrapped, for a key that NewKey has not made or an id that
// occurs twice, and an error for an inner codec that is nil or whose name has more than 13 bytes.
func New(inner codec.Codec, first Key, others ...Key) (*Codec, error) {
	if inner == nil {
		return nil, errors.New("encrypt: the inner codec is nil")
	}
	c := &Codec{inner: inner, name: inner.Name() + suffix, first: first, keys: map[string]Key{}}
	if !codec.ValidName(c.name) {
		return nil, fmt.Errorf("encrypt: the codec's name would be %q, it must be 1 to 16 bytes of a-z, 0-9 and -", c.name)
	}
	for i, k := range append([]Key{first}, others...) {
		if k.aead == nil {
			return nil, fmt.Errorf("encrypt: %w: number %d was not made by NewKey", ErrKey, i+1)
		}
		if _, twice := c.keys[k.id]; twice {
			return nil, fmt.Errorf("encrypt: %w: two keys have the id %s", ErrKey, k.id)
		}
		c.keys[k.id] = k
	}
	return c, nil
}

// Name implements codec.Codec.
func (c *Codec) Name() string { return c.name }

// Check implements codec.Checker.
func (c *Codec) Check(t reflect.Type) error { return codec.Check(c.inner, t) }

// Fingerprint implements codec.Fingerprinter.
func (c *Codec) Fingerprint(t reflect.Type) uint64 { return codec.Fingerprint(c.inner, t) }

// Marshal returns ErrNoEntry.
func (c *Codec) Marshal(any) ([]byte, error) { return nil, c.wrap("encrypt", ErrNoEntry) }

// Unmarshal returns ErrNoEntry.
func (c *Codec) Unmarshal([]byte, any) error { return c.wrap("decrypt", ErrNoEntry) }

// MarshalEntry implements codec.EntryCodec.
func (c *Codec) MarshalEntry(e codec.Entry, v any) ([]byte, error) {
	plain, err := codec.MarshalFor(c.inner, e, v)
	if err != nil {
		return nil, err
	}
	return c.seal(e, plain), nil
}

// UnmarshalEntry implements codec.EntryCodec. Its errors wrap ErrUnknownKey and ErrNotAuthentic.
func (c *Codec) UnmarshalEntry(e codec.Entry, data []byte, v any) error {
	plain, err := c.open(e, data)
	if err != nil {
		return c.wrap("decrypt", err)
	}
	return codec.UnmarshalFor(c.inner, e, plain, v)
}

func (c *Codec) wrap(what string, err error) error {
	return fmt.Errorf("codec %s: %s: %w", c.name, what, err)
}

func (c *Codec) seal(e codec.Entry, plain []byte) []byte {
	id := c.first.id
	b := make([]byte, 0, offID+len(id)+overhead+len(plain))
	b = append(b, format, byte(len(id)))
	b = append(b, id...)
	additional := c.additional(e, b)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce) // never fails: without randomness the program ends
	b = append(b, nonce...)
	return c.first.aead().Seal(b, nonce, plain, additional)
}

func (c *Codec) open(e codec.Entry, data []byte) ([]byte, error) {
	if len(data) < offID || data[0] != format {
		return nil, fmt.Errorf("%w: not encrypted by a known format", ErrNotAuthentic)
	}
	head := offID + int(data[1])
	if len(data) < head+overhead {
		return nil, fmt.Errorf("%w: only %d bytes", ErrNotAuthentic, len(data))
	}
	// The id is anybody's bytes until the key has opened the rest.
	k, ok := c.keys[string(data[offID:head])]
	if !ok {
		return nil, fmt.Errorf("%w: id %.16q", ErrUnknownKey, data[offID:head])
	}
	nonce, sealed := data[head:head+chacha20poly1305.NonceSizeX], data[head+chacha20poly1305.NonceSizeX:]
	plain, err := opened(k.aead(), nonce, sealed, c.additional(e, data[:head]))
	if err != nil {
		return nil, fmt.Errorf("%w (key %s)", ErrNotAuthentic, k.id)
	}
	return plain, nil
}

func opened(aead cipher.AEAD, nonce, sealed, additional []byte) ([]byte, error) {
	return aead.Open(make([]byte, 0, len(sealed)-aead.Overhead()), nonce, sealed, additional)
}

// additional returns what is authenticated with a value and not stored with it: the purpose, so that no other use of the
// same key can be taken for this one; the head; the codec's name; and the entry. Each comes with its length, so that no
// byte of one can be taken for one of another.
func (c *Codec) additional(e codec.Entry, head []byte) []byte {
	const purpose = "tandem cache entry"
	parts := [...]string{purpose, string(head), c.name, e.Cache, e.Key}
	n := 8
	for _, s := range parts {
		n += 4 + len(s)
	}
	b := make([]byte, 0, n)
	for _, s := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, e.Type)
}
