package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// The output of MarshalJSON is kept as it is, in a byte string under the tag that CBOR has for embedded JSON. Converting
// it to CBOR and back, which is what the library's hook is meant for, would cost more and would not give the same JSON
// again: numbers lose digits, duplicate keys merge.

// embeddedJSON is tag 262 followed by the head of a byte string with a length of four bytes.
var embeddedJSON = [...]byte{0xd9, 0x01, 0x06, 0x5a}

const embeddedHead = len(embeddedJSON) + 4

// jsonIn wraps JSON for encoding.
type jsonIn struct{}

// Transcode implements cbor.Transcoder.
func (jsonIn) Transcode(dst io.Writer, src io.Reader) error {
	text, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	if uint64(len(text)) > math.MaxUint32 {
		return errors.New("JSON is longer than 4 GiB")
	}
	item := make([]byte, 0, embeddedHead+len(text))
	item = append(item, embeddedJSON[:]...)
	item = binary.BigEndian.AppendUint32(item, uint32(len(text)))
	_, err = dst.Write(append(item, text...))
	return err
}

// jsonOut unwraps it. It is called for every type with an UnmarshalJSON method, and so also for big.Int, which the
// encoder does not write as JSON.
type jsonOut struct{}

// Transcode implements cbor.Transcoder.
func (jsonOut) Transcode(dst io.Writer, src io.Reader) error {
	item, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	text, err := jsonOf(item)
	if err != nil {
		return err
	}
	_, err = dst.Write(text)
	return err
}

// jsonOf returns the JSON for a well-formed CBOR item.
func jsonOf(item []byte) ([]byte, error) {
	const null, bigPositive, bigNegative = 0xf6, 0xc2, 0xc3
	switch {
	case len(item) >= embeddedHead && [len(embeddedJSON)]byte(item) == embeddedJSON:
		return item[embeddedHead:], nil // the item is well-formed: the length is right
	case item[0] == null:
		return []byte("null"), nil
	case item[0] == bigPositive, item[0] == bigNegative:
		var n big.Int
		if err := cbor.Unmarshal(item, &n); err != nil {
			return nil, err
		}
		return n.MarshalJSON()
	}
	return nil, fmt.Errorf("CBOR item %#x is not embedded JSON", item[0])
}
