package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
)

// The envelope's bytes, integers big-endian:
//
//	0   2  "TD"
//	2   1  format, 1
//	3   1  flags: bit 0 known not to exist, bit 1 tells tags; the others must be zero
//	4   8  xxHash64 of bytes 0 to 3, the length of the entry's key (4 bytes), the key, and all from byte 12 on
//	12  8  epoch of the cache when the load began
//	20  8  fingerprint of the value's type
//	28  2  how long the load took, in ms; 65535 for longer, 0 for not known
//	30  6  when the load began, in ms of Redis time
//	36  8  when the entry expires, in ms of Redis time
//	44  1  length of the codec's name
//	45  n  codec's name
//	..  1  if it tells tags: how many; then for each
//	..  1    its length
//	..  n    the tag
//	..     payload; empty if the key is known not to exist
//
// The checksum covers the key, so that an envelope that was copied or renamed to another key is foreign there.
//
// A release that did not know the time of the load wrote the beginning as 8 bytes, whose first two were zero, and used it for
// nothing: both can read what the other writes.
const (
	envelopeFormat = 1
	flagAbsent     = 1
	flagTagged     = 2

	offChecksum = 4
	offEpoch    = 12
	offType     = 20
	offLoad     = 28
	offExpires  = 36
	offCodec    = 44
	headerBytes = 45

	maxLoadMs  = 1<<16 - 1
	maxCreated = 1<<48 - 1

	// MaxCodecName is the longest name of a codec.
	MaxCodecName = 16
	// EnvelopeOverhead is the most that an envelope without tags adds to its payload.
	EnvelopeOverhead = headerBytes + MaxCodecName
	// MaxTags is how many tags an entry has at most.
	MaxTags = 32
	// MaxTagBytes is the longest tag.
	MaxTagBytes = 255
)

// Why an entry in Redis cannot be used. Each is a miss to a reader, never an error.
var (
	// ErrForeign: the bytes are not an envelope, or one of a format this release does not know.
	ErrForeign = errors.New("not an envelope of a known format")
	// ErrCorrupt: the checksum does not hold: truncated, changed, or copied from another key.
	ErrCorrupt = errors.New("checksum does not hold")
	// ErrSchema: the payload is of another codec or type.
	ErrSchema = errors.New("another codec or type")
	// ErrTooLarge: the envelope or the payload is over the limit.
	ErrTooLarge = errors.New("too large")
	// ErrWrongType: the key holds another Redis type than a hash.
	ErrWrongType = errors.New("wrong Redis type")
)

// Envelope is what an entry's field holds.
type Envelope struct {
	Schema Schema
	// Absent says that the key is known not to exist in the source. The payload is then empty.
	Absent bool
	// Epoch is the cache's epoch when the load began. Another epoch in Redis means the entry is invalidated.
	Epoch uint64
	// Created is when the load began, from 0 to 2^48-1, and Expires when the entry ends, both in ms of Redis time.
	Created, Expires int64
	// Load is how long the load took, in whole ms up to 65.535 s; zero if that is not known.
	Load time.Duration
	// Tagged says that whoever stored the entry knows its tags, which may be none. It cannot be where the key is Absent.
	Tagged bool
	// Tags are at most MaxTags of 1 to MaxTagBytes bytes. An invalidation of one of them ends the entry.
	Tags []string
	// Payload is the encoded value. In a decoded envelope it points into the decoded bytes.
	Payload []byte
}

// Encode returns the envelope's bytes for the entry of key, or an error if the codec's name cannot be stored or an absent
// key has a payload.
func (e Envelope) Encode(key string) ([]byte, error) {
	if n := len(e.Schema.Codec); n == 0 || n > MaxCodecName {
		return nil, fmt.Errorf("codec name %.32q: it must have 1 to %d bytes", e.Schema.Codec, MaxCodecName)
	}
	if e.Absent && len(e.Payload) > 0 {
		return nil, fmt.Errorf("payload of %d bytes for a key that does not exist", len(e.Payload))
	}
	if err := e.checkTags(); err != nil {
		return nil, err
	}
	b := make([]byte, headerBytes, headerBytes+len(e.Schema.Codec)+TagsOverhead(e.Tags)+len(e.Payload))
	b[0], b[1], b[2] = 'T', 'D', envelopeFormat
	if e.Absent {
		b[3] = flagAbsent
	}
	if e.Tagged {
		b[3] |= flagTagged
	}
	binary.BigEndian.PutUint64(b[offEpoch:], e.Epoch)
	binary.BigEndian.PutUint64(b[offType:], e.Schema.Type)
	// Created's first two bytes are Load's.
	binary.BigEndian.PutUint64(b[offLoad:], uint64(min(max(e.Created, 0), maxCreated)))
	binary.BigEndian.PutUint16(b[offLoad:], uint16(min(max(e.Load.Milliseconds(), 0), maxLoadMs)))
	binary.BigEndian.PutUint64(b[offExpires:], uint64(e.Expires))
	b[offCodec] = byte(len(e.Schema.Codec))
	b = append(b, e.Schema.Codec...)
	if e.Tagged {
		b = appendTags(b, e.Tags)
	}
	b = append(b, e.Payload...)
	binary.BigEndian.PutUint64(b[offChecksum:], checksum(b, key))
	return b, nil
}

// Decode reads the envelope of key's entry. It returns ErrForeign or ErrCorrupt, wrapped, for bytes that are not one; it
// does not panic on any input, and allocates nothing for the payload.
func Decode(b []byte, key string) (Envelope, error) {
	if len(b) < headerBytes || b[0] != 'T' || b[1] != 'D' || b[2] != envelopeFormat || b[3]&^(flagAbsent|flagTagged) != 0 {
		return Envelope{}, fmt.Errorf("%w (%d bytes)", ErrForeign, len(b))
	}
	if binary.BigEndian.Uint64(b[offChecksum:]) != checksum(b, key) {
		return Envelope{}, fmt.Errorf("%w (%d bytes)", ErrCorrupt, len(b))
	}
	// From here on the bytes are what some Encode wrote; the length is checked all the same, because a checksum is no signature.
	n := int(b[offCodec])
	if n == 0 || n > MaxCodecName || len(b) < headerBytes+n {
		return Envelope{}, fmt.Errorf("%w: codec name of %d bytes", ErrForeign, n)
	}
	tagged, tags, payload := b[3]&flagTagged != 0, []string(nil), b[headerBytes+n:]
	if tagged {
		var ok bool
		if tags, payload, ok = cutTags(payload); !ok {
			return Envelope{}, fmt.Errorf("%w: its tags", ErrForeign)
		}
	}
	if b[3]&flagAbsent != 0 && (tagged || len(payload) > 0) {
		return Envelope{}, fmt.Errorf("%w: a payload for a key that does not exist", ErrForeign)
	}
	return Envelope{
		Schema:  Schema{Codec: string(b[headerBytes : headerBytes+n]), Type: binary.BigEndian.Uint64(b[offType:])},
		Absent:  b[3]&flagAbsent != 0,
		Epoch:   binary.BigEndian.Uint64(b[offEpoch:]),
		Created: int64(binary.BigEndian.Uint64(b[offLoad:]) & maxCreated),
		Load:    time.Duration(binary.BigEndian.Uint16(b[offLoad:])) * time.Millisecond,
		Expires: int64(binary.BigEndian.Uint64(b[offExpires:])),
		Tagged:  tagged,
		Tags:    tags,
		Payload: payload,
	}, nil
}

func checksum(b []byte, key string) uint64 {
	var d xxhash.Digest
	d.Reset()
	// A Digest's Write does not fail.
	_, _ = d.Write(b[:offChecksum])
	// With its length before it, no byte of the key can be taken for one of the payload.
	_, _ = d.Write(binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	_, _ = d.WriteString(key)
	_, _ = d.Write(b[offEpoch:])
	return d.Sum64()
}
