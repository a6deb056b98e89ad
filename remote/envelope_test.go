package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
)

func small() Envelope {
	return Envelope{
		Schema: Schema{Codec: "cbor", Type: 0x3f2a90c1d4e5b687}, Epoch: 7, Created: 1_700_000_000_000, Expires: 1_700_000_060_000,
		Payload: []byte("value"),
	}
}

func encode(t *testing.T, e Envelope, key string) []byte {
	t.Helper()
	b, err := e.Encode(key)
	require.NoError(t, err)
	return b
}

func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]Envelope{
		"small":       small(),
		"absent":      {Schema: schemaA, Absent: true, Epoch: 1, Created: 1, Expires: 2, Payload: []byte{}},
		"early":       {Schema: schemaA, Created: 1, Expires: math.MinInt64, Load: time.Millisecond, Payload: []byte{}},
		"zero":        {Schema: Schema{Codec: "a"}, Payload: []byte{}},
		"extremes":    {Schema: Schema{Codec: strings.Repeat("x", MaxCodecName), Type: math.MaxUint64}, Epoch: math.MaxUint64, Created: maxCreated, Expires: math.MaxInt64, Load: maxLoadMs * time.Millisecond, Payload: []byte(everyByte())},
		"big":         {Schema: schemaA, Payload: bytes.Repeat([]byte("x"), 4<<20)},
		"like itself": {Schema: schemaA, Payload: encode(t, small(), "42")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, key := range []string{"42", everyByte(), strings.Repeat("k", MaxKeyBytes)} {
				b := encode(t, e, key)
				require.LessOrEqual(t, len(b), len(e.Payload)+EnvelopeOverhead)
				got, err := Decode(b, key)
				require.NoError(t, err)
				require.Equal(t, e, got)
				require.Equal(t, b, encode(t, got, key), "one spelling")
			}
		})
	}
}

// The format is what instances of all releases share: a change of it needs another format number.
func TestEnvelopeBytes(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	require.Equal(t, "TD\x01\x00", string(b[:4]))
	require.EqualValues(t, 7, binary.BigEndian.Uint64(b[12:]))
	require.EqualValues(t, 0x3f2a90c1d4e5b687, binary.BigEndian.Uint64(b[20:]))
	require.EqualValues(t, 1_700_000_000_000, binary.BigEndian.Uint64(b[28:]))
	require.EqualValues(t, 1_700_000_060_000, binary.BigEndian.Uint64(b[36:]))
	require.Equal(t, "\x04cborvalue", string(b[44:]))
	absent := small()
	absent.Absent, absent.Payload = true, nil
	require.Equal(t, "TD\x01\x01", string(encode(t, absent, "42")[:4]))
}

// What a release wrote that did not know the time of the load, and what it reads: the time in 8 bytes.
func TestEnvelopeOfAReleaseWithoutLoadTimes(t *testing.T) {
	t.Parallel()
	e := small()
	b := encode(t, e, "42")
	require.EqualValues(t, e.Created, binary.BigEndian.Uint64(b[28:]), "a time that is not known leaves the bytes as they were")
	got, err := Decode(b, "42")
	require.NoError(t, err)
	require.Zero(t, got.Load)

	e.Load = 1500 * time.Millisecond
	b = encode(t, e, "42")
	require.Equal(t, "TD\x01\x00", string(b[:4]), "no new format or flag, which it would not read")
	got, err = Decode(b, "42")
	require.NoError(t, err)
	require.Equal(t, e, got)
}

func TestEnvelopeTimesOutOfBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		created, wantCreated int64
		load, wantLoad       time.Duration
	}{
		{math.MinInt64, 0, -time.Second, 0},
		{math.MaxInt64, maxCreated, time.Hour, maxLoadMs * time.Millisecond},
		{maxCreated + 1, maxCreated, 999 * time.Microsecond, 0},
	} {
		e := small()
		e.Created, e.Load = c.created, c.load
		got, err := Decode(encode(t, e, "42"), "42")
		require.NoError(t, err)
		require.Equal(t, c.wantCreated, got.Created)
		require.Equal(t, c.wantLoad, got.Load)
	}
}

func TestMaximalOverhead(t *testing.T) {
	t.Parallel()
	e := Envelope{Schema: Schema{Codec: strings.Repeat("x", MaxCodecName)}}
	require.Len(t, encode(t, e, "42"), EnvelopeOverhead)
}

func TestEncodeRefusesACodecNameThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"", strings.Repeat("x", MaxCodecName+1), strings.Repeat("x", 256), strings.Repeat("x", 1<<20)} {
		b, err := Envelope{Schema: Schema{Codec: codec}}.Encode("42")
		require.Error(t, err)
		require.Less(t, len(err.Error()), 200)
		require.Nil(t, b)
	}
}

// requireBad requires that b is refused under key, by one of the two errors, and that nothing of it is given out.
func requireBad(t *testing.T, b []byte, key, what string) error {
	t.Helper()
	e, err := Decode(b, key)
	if err == nil {
		require.Fail(t, "decoded", "%s: %x", what, b)
	}
	require.Equal(t, Envelope{}, e)
	require.NotEqual(t, errors.Is(err, ErrForeign), errors.Is(err, ErrCorrupt), "%v is one of the two", err)
	return err
}

func TestEveryChangeOfOneByteIsNoticed(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]Envelope{
		"value": small(), "absent": {Schema: schemaA, Absent: true, Epoch: 1}, "shortest": {Schema: Schema{Codec: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := encode(t, e, "42")
			for i := range b {
				was := b[i]
				for change := range 255 {
					b[i] = was + byte(change) + 1
					_ = requireBad(t, b, "42", "changed")
				}
				b[i] = was
			}
			_, err := Decode(b, "42")
			require.NoError(t, err)
		})
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	for n := range b {
		_ = requireBad(t, b[:n], "42", "truncated at the end")
		_ = requireBad(t, b[len(b)-n:], "42", "truncated at the start")
		_ = requireBad(t, append(bytes.Clone(b[:n]), b[n+1:]...), "42", "a byte left out")
	}
	_ = requireBad(t, nil, "42", "nothing")
}

func TestEveryAddedByteIsNoticed(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	for c := range 256 {
		_ = requireBad(t, append(bytes.Clone(b), byte(c)), "42", "added at the end")
		for i := range b {
			_ = requireBad(t, append(append(bytes.Clone(b[:i]), byte(c)), b[i:]...), "42", "added before the end")
		}
	}
	_ = requireBad(t, append(bytes.Clone(b), b...), "42", "twice")
}

func TestAnEnvelopeOfAnotherKeyIsForeign(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	for _, key := range []string{"", "4", "2", "24", "43", "42 ", " 42", "042", "42\x00", "4242", everyByte()} {
		require.ErrorIs(t, requireBad(t, b, key, "another key"), ErrCorrupt)
	}
}

// The payload is the last thing in the checksum but for the key, and neither is preceded by its length: what is moved
// from one to the other leaves the checksum as it was.
func TestTheBorderBetweenPayloadAndKeyIsPartOfTheChecksum(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	_ = requireBad(t, append(bytes.Clone(b), '4'), "2", "added")
	_ = requireBad(t, append(bytes.Clone(b), '4', '2'), "", "added")
	_ = requireBad(t, b[:len(b)-1], "e42", "truncated")
	_ = requireBad(t, b[:len(b)-len("value")], "value42", "truncated")
	_ = requireBad(t, b[:len(b)-len("value")-1], "rvalue42", "truncated into the codec's name")
}

// A writer that makes the checksum right still cannot make an envelope of what this release does not know.
func TestUnknownFormatsAndFlagsAreForeign(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b []byte) []byte{
		"magic T":         func(b []byte) []byte { b[0] = 't'; return b },
		"magic D":         func(b []byte) []byte { b[1] = 'd'; return b },
		"format 0":        func(b []byte) []byte { b[2] = 0; return b },
		"format 2":        func(b []byte) []byte { b[2] = 2; return b },
		"flag 1":          func(b []byte) []byte { b[3] = 2; return b },
		"flag 7":          func(b []byte) []byte { b[3] = 0x80; return b },
		"all flags":       func(b []byte) []byte { b[3] = 0xff; return b },
		"no codec":        func(b []byte) []byte { b[offCodec] = 0; return b },
		"codec too long":  func(b []byte) []byte { b[offCodec] = MaxCodecName + 1; return append(b, make([]byte, 100)...) },
		"codec cut short": func(b []byte) []byte { b[offCodec] = 9; return b[:headerBytes+8] },
		"codec of 255":    func(b []byte) []byte { b[offCodec] = 255; return b },
		"header alone":    func(b []byte) []byte { return b[:headerBytes] },
		"header cut":      func(b []byte) []byte { return b[:headerBytes-1] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := seal(spoil(encode(t, small(), "42")), "42")
			require.ErrorIs(t, requireBad(t, b, "42", name), ErrForeign)
		})
	}
}

// seal makes the checksum right.
func seal(b []byte, key string) []byte {
	if len(b) >= offEpoch {
		binary.BigEndian.PutUint64(b[offChecksum:], checksum(b, key))
	}
	return b
}

func TestForeignAndCorruptAreTold(t *testing.T) {
	t.Parallel()
	b := encode(t, small(), "42")
	require.ErrorIs(t, requireBad(t, []byte(`{"id":42}`), "42", "JSON"), ErrForeign)
	require.ErrorIs(t, requireBad(t, []byte(strings.Repeat("x", 1<<20)), "42", "long"), ErrForeign)
	b[len(b)-1]++
	require.ErrorIs(t, requireBad(t, b, "42", "changed payload"), ErrCorrupt)
}

func TestDecodeDoesNotCopyThePayload(t *testing.T) {
	t.Parallel()
	e := small()
	e.Payload = bytes.Repeat([]byte("x"), 1<<20)
	b := encode(t, e, "42")
	got, err := Decode(b, "42")
	require.NoError(t, err)
	require.Same(t, &b[len(b)-1], &got.Payload[len(got.Payload)-1])
}

// An append to the payload of one envelope must not write into what belongs to its owner.
func TestEncodeDoesNotKeepThePayload(t *testing.T) {
	t.Parallel()
	e := small()
	b := encode(t, e, "42")
	e.Payload[0] = 'X'
	_, err := Decode(b, "42")
	require.NoError(t, err)
}

func TestAbsentHasNoPayload(t *testing.T) {
	t.Parallel()
	e := small()
	e.Absent = true
	_, err := e.Encode("42")
	require.Error(t, err)
	b := encode(t, small(), "42")
	b[3] = flagAbsent
	require.ErrorIs(t, requireBad(t, seal(b, "42"), "42", "absent, with a payload"), ErrForeign)
}

func FuzzDecode(f *testing.F) {
	b, err := small().Encode("42")
	require.NoError(f, err)
	f.Add(b, "42", false)
	f.Add([]byte("TD\x01\x00"), "", true)
	f.Fuzz(func(t *testing.T, b []byte, key string, sealed bool) {
		if sealed {
			b = seal(bytes.Clone(b), key) // past the checksum, which a fuzzer does not find
		}
		e, err := Decode(b, key)
		if err != nil {
			_ = requireBad(t, b, key, "refused")
			return
		}
		require.NotEmpty(t, e.Schema.Codec)
		require.LessOrEqual(t, len(e.Schema.Codec), MaxCodecName)
		again, err := e.Encode(key)
		require.NoError(t, err)
		require.Equal(t, b, again, "whatever decodes has one spelling")
		rest := len(b) - headerBytes - len(e.Schema.Codec)
		if e.Tagged {
			rest -= TagsOverhead(e.Tags)
		}
		require.Len(t, e.Payload, rest)
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add("tandem:{users}:k:42")
	f.Add("tandem:{users}:k:}:k:")
	f.Add("tandem:{users}:epoch")
	f.Add("tandem:users:{1f}:k:42")
	f.Add("tandem:users:{1f}:k:}:k:")
	table, err := partition.New(partition.Min)
	require.NoError(f, err)
	single, err := KeysFor("users")
	require.NoError(f, err)
	cluster, err := ClusterKeys("users", table)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, s string) {
		name, key, err := ParseEntry(s)
		if err != nil {
			require.NotEqual(t, errors.Is(err, ErrKey), errors.Is(err, ErrName), "%v is one of the two", err)
			require.Empty(t, name+key)
			// Nothing that Entry makes is refused.
			for _, keys := range []Keys{single, cluster} {
				if CheckKey(s) == nil {
					name, key, err = ParseEntry(keys.Entry(s))
					require.NoError(t, err)
					require.Equal(t, "users", name)
					require.Equal(t, s, key)
				}
			}
			return
		}
		keys, err := KeysFor(name)
		require.NoError(t, err)
		require.NoError(t, CheckKey(key))
		if s == keys.Entry(key) {
			return
		}
		rest, ok := strings.CutPrefix(s, "tandem:"+name+":{")
		require.True(t, ok)
		tag, ok := strings.CutSuffix(rest, "}:k:"+key)
		require.True(t, ok)
		require.Regexp(t, "^[0-9a-z]+$", tag)
	})
}
