// Package compress wraps a codec so that what is large in Redis is kept compressed.
//
// A first byte says what was done with the rest, so every release with this package reads what any other has written,
// whatever Algorithm and Threshold they have: these can be changed at any time. An uncompressed entry, one that was
// written without this package, has another codec's name, and the two live beside each other.
//
// Together with encryption, compression comes first: encrypt.New(compressed, key), not the other way round, because
// encrypted bytes do not get smaller. The length of a compressed entry tells something about what is in it. Where one value
// holds a secret beside text that an attacker chooses, and the attacker sees lengths, do not compress it.
package compress

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"

	"github.com/tandemcache/tandem/remote/codec"
)

// Algorithm is a way to compress.
type Algorithm uint8

const (
	// S2 is fast, at the price of some size. It is the default.
	S2 Algorithm = iota
	// Zstd makes smaller entries, and takes several times longer.
	Zstd
)

// What the zero value of each option means.
const (
	DefaultThreshold  = 1 << 10
	DefaultMaxDecoded = 16 << 20
)

const (
	minMaxDecoded = 64 << 10
	maxMaxDecoded = 512 << 20 // what Redis takes for one string
)

// ErrInvalidOption is returned by New, wrapped.
var ErrInvalidOption = errors.New("invalid option")

// errSize is what a value, or bytes that claim to be one, fails with beyond Options.MaxDecoded.
var errSize = errors.New("larger than Options.MaxDecoded")

// Options configures a Codec. The zero value of each field is a sound default.
type Options struct {
	// Algorithm compresses. Both are understood when reading. Zero: S2.
	Algorithm Algorithm
	// Threshold is the shortest encoding, in bytes, that is compressed. One that compression does not make smaller is kept
	// as it is, too. Zero: 1024.
	Threshold int
	// MaxDecoded bounds the decompressed size of a value, from 64 KiB to 512 MiB: a few bytes from Redis can take this
	// much memory, and no more, for the time of a Get that finds them. A larger value is an error of Marshal. Releases that
	// share entries should have the same. Zero: 16 MiB.
	MaxDecoded int
}

// Codec compresses what another codec encodes. Its methods are safe for concurrent use.
type Codec struct {
	inner codec.Codec
	name  string
	opts  Options
}

// suffix follows the inner codec's name. It changes with the format.
const suffix = "-z1"

// The first byte says how the rest is kept.
const (
	plain  = 0
	inS2   = 1
	inZstd = 2
)

// New returns a codec that compresses what inner encodes. Its name is inner's with "-z1" after it. It returns
// ErrInvalidOption, wrapped, for an option out of its bounds, and for an inner codec that is nil or whose name has more
// than 13 bytes.
func New(inner codec.Codec, opts Options) (*Codec, error) {
	if inner == nil {
		return nil, fmt.Errorf("compress: %w: the inner codec is nil", ErrInvalidOption)
	}
	name := inner.Name() + suffix
	opts.Threshold = cmp.Or(opts.Threshold, DefaultThreshold)
	opts.MaxDecoded = cmp.Or(opts.MaxDecoded, DefaultMaxDecoded)
	switch {
	case !codec.ValidName(name):
		return nil, fmt.Errorf("compress: %w: the name would be %q, it must be 1 to 16 bytes of a-z, 0-9 and -", ErrInvalidOption, name)
	case opts.Algorithm > Zstd:
		return nil, fmt.Errorf("compress: %w: Options.Algorithm is %d, must be S2 or Zstd", ErrInvalidOption, opts.Algorithm)
	case opts.Threshold < 1:
		return nil, fmt.Errorf("compress: %w: Options.Threshold is %d, must be at least 1", ErrInvalidOption, opts.Threshold)
	case opts.MaxDecoded < minMaxDecoded || opts.MaxDecoded > maxMaxDecoded:
		return nil, fmt.Errorf("compress: %w: Options.MaxDecoded is %d, must be from %d to %d", ErrInvalidOption, opts.MaxDecoded, minMaxDecoded, maxMaxDecoded)
	}
	return &Codec{inner: inner, name: name, opts: opts}, nil
}

// Name implements codec.Codec.
func (c *Codec) Name() string { return c.name }

// Check implements codec.Checker.
func (c *Codec) Check(t reflect.Type) error { return codec.Check(c.inner, t) }

// Fingerprint implements codec.Fingerprinter.
func (c *Codec) Fingerprint(t reflect.Type) uint64 { return codec.Fingerprint(c.inner, t) }

// Marshal implements codec.Codec.
func (c *Codec) Marshal(v any) ([]byte, error) {
	b, err := c.inner.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.pack(b)
}

// MarshalEntry implements codec.EntryCodec.
func (c *Codec) MarshalEntry(e codec.Entry, v any) ([]byte, error) {
	b, err := codec.MarshalFor(c.inner, e, v)
	if err != nil {
		return nil, err
	}
	return c.pack(b)
}

// Unmarshal implements codec.Codec.
func (c *Codec) Unmarshal(data []byte, v any) error {
	b, err := c.unpack(data)
	if err != nil {
		return err
	}
	return c.inner.Unmarshal(b, v)
}

// UnmarshalEntry implements codec.EntryCodec.
func (c *Codec) UnmarshalEntry(e codec.Entry, data []byte, v any) error {
	b, err := c.unpack(data)
	if err != nil {
		return err
	}
	return codec.UnmarshalFor(c.inner, e, b, v)
}

// pack returns b behind its first byte, compressed if that is worth it.
func (c *Codec) pack(b []byte) ([]byte, error) {
	if len(b) > c.opts.MaxDecoded {
		// It could be written and never read.
		return nil, fmt.Errorf("codec %s: %d bytes: %w (%d)", c.name, len(b), errSize, c.opts.MaxDecoded)
	}
	if len(b) >= c.opts.Threshold {
		packed := compressed(c.opts.Algorithm, b)
		if len(packed) < 1+len(b) {
			return packed, nil
		}
	}
	return append(append(make([]byte, 0, 1+len(b)), plain), b...), nil
}

// unpack returns what pack was given. What is plain points into data.
func (c *Codec) unpack(data []byte) (b []byte, err error) {
	defer func() {
		// The decompressors are not known to panic. They work on bytes that anybody may have written.
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("codec %s: decompress: panic: %v", c.name, p)
		}
	}()
	if len(data) == 0 {
		return nil, fmt.Errorf("codec %s: decompress: no bytes", c.name)
	}
	switch data[0] {
	case plain:
		b = data[1:]
	case inS2:
		b, err = fromS2(data[1:], c.opts.MaxDecoded)
	case inZstd:
		b, err = fromZstd(data[1:], c.opts.MaxDecoded)
	default:
		err = fmt.Errorf("first byte is %d, not one of a known way to compress", data[0])
	}
	if err == nil && len(b) > c.opts.MaxDecoded {
		err = fmt.Errorf("%d bytes: %w (%d)", len(b), errSize, c.opts.MaxDecoded)
	}
	if err != nil {
		return nil, fmt.Errorf("codec %s: decompress %d bytes: %w", c.name, len(data), err)
	}
	return b, nil
}
