// Package codec turns cached values into bytes for Redis and back.
//
// For names the codec for a type: Raw for strings and byte slices, Default for the rest; JSON is there for those who want
// to read their entries. Fingerprint tells the structures of types apart, so that an entry is never decoded into a type
// that it was not written from; Versioned tells meanings apart that have one structure.
//
// The packages below wrap a codec or replace it, and are linked only by those who import them: compress, encrypt, msgpack,
// and protobuf, which is a module of its own.
//
// # What Default keeps
//
// A value that comes from Redis should be the value that the source gave, or else callers see two kinds of values for one
// key, depending on which tier answered. Default therefore keeps a value or refuses it; it does not change it silently,
// except as listed below. Check tells for a type, Marshal for a value.
//
//   - Numbers of all sizes with NaN, the infinities and -0; strings, UTF-8 or not; byte slices, arrays, pointers, nested
//     and recursive types up to 128 levels; nil and empty slices and maps stay different; maps may have keys of any basic
//     type, of arrays and structs of them, and of types that marshal themselves.
//   - time.Time with nanoseconds and offset, and time.Duration. The zone's name and the monotonic clock reading are lost.
//   - Struct fields by their json tags, or cbor tags, which go first: names, "-", omitempty, omitzero, embedding. (The
//     option "string" has no effect.) As in JSON, unexported fields are not kept, fields that a tag excludes are not, and what
//     omitempty or omitzero leaves out comes back as the zero value: an empty slice as nil, and an embedded pointer as nil
//     if that leaves nothing of it.
//   - Types that marshal themselves, with both methods of a pair: MarshalCBOR first, then MarshalBinary, MarshalJSON, and
//     MarshalText where there is no JSON. This covers uuid, decimal, netip, url and the like. The bytes are kept as the
//     type writes them, those of json.RawMessage too (but a nil one may come back as null). The library has one setting
//     for a whole value. Where none gives every type in it both methods of one pair, the value is refused: say, a type with
//     JSON only beside one with Binary and JSON and one with Binary only.
//   - In an any: nil, bool, string, []byte, int64, float64, time.Time, *big.Int, []any and map[string]any, nested at will.
//     Integers and floats of other sizes come back as int64 and float64.
//
// Refused are, by type: functions, channels, complex numbers, interfaces with methods, structs without an exported field,
// fields of one name, types with one half of a pair of methods, structs that embed a type which marshals itself beside
// other fields, and map keys that are not equal after decoding. By value: times off UTC by seconds or with years before 0
// or after 9999, anything else in an any, pointers to a nil or to a zero time (there is only one nil in the encoding), and
// values that contain themselves.
//
// # Why CBOR, and this library
//
// Keeping the meaning came first. Of the binary codecs measured here, only github.com/fxamacker/cbor heeds json tags
// with omitzero, the offsets of times, and both MarshalText and MarshalJSON; and only it checks the bytes before it makes
// room for what they claim to hold. The msgpack codecs changed the offset of times and wrote types with a MarshalText or
// MarshalJSON method as empty maps, without an error. Given 150,000 entries of 170 bytes with some bytes altered, they
// took up to 64 MiB for one (ugorji), ran out of memory (vmihailenco) or panicked (shamaton).
//
// Measured side by side on a struct with an int64, a string of 32 bytes, 4 short strings and 512 bytes, as the speed of
// encoding/json times a factor:
//
//	                                encode   decode
//	encoding/json                    1.0      1.0
//	Default                          2.1      5.2    in 3/4 of the bytes
//	ugorji/go/codec, cbor            2.2      8.4    by way of unsafe access to the runtime's internals
//	vmihailenco/msgpack/v5           1.5      6.7    last released in 2023
//	shamaton/msgpack/v3              1.1     13.3    byte slices point into the input
//	mongo-driver/v2/bson             0.9      3.1
//
// What Default adds to the library, a look at the plan of the type, cannot be seen in these numbers. Where its decoding is
// too slow, a type can have MarshalCBOR and UnmarshalCBOR, or the cache another Codec. To compare the first two lines:
//
//	go test -run '^$' -bench . -benchmem -count 6 ./remote/codec
package codec
