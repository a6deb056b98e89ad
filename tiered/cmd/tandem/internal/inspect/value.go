package inspect

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/tandemcache/tandem/remote/codec"
)

const (
	// maxShown bounds what is rendered of bytes that have no structure.
	maxShown = 4 << 10
	// jsonTag is the CBOR tag under which the default codec keeps what a type marshals itself as JSON.
	jsonTag = 262
)

// Value is a payload for people. Exactly one field is set beside Error.
type Value struct {
	JSON       json.RawMessage `json:"json,omitempty"`
	Diagnostic string          `json:"cbor_diagnostic,omitempty"` // CBOR that has no form in JSON
	Text       *string         `json:"text,omitempty"`
	Hex        string          `json:"hex,omitempty"`
	Cut        int             `json:"cut_bytes,omitempty"` // that are not shown of Text or Hex
	Error      string          `json:"error,omitempty"`     // why it is not decoded
}

// render does what it can with a payload; it does not panic on any.
func render(name string, payload []byte) (v *Value) {
	defer func() {
		// The decoders are made for foreign bytes; should one fail all the same, the bytes are what there is to show.
		if p := recover(); p != nil {
			v = plain(payload)
			v.Error = fmt.Sprintf("decoding panicked: %v", p)
		}
	}()
	switch name {
	case codec.Default.Name():
		return renderCBOR(payload)
	case codec.JSON.Name():
		var out bytes.Buffer
		if err := json.Compact(&out, payload); err != nil {
			v = plain(payload)
			v.Error = err.Error()
			return v
		}
		return &Value{JSON: out.Bytes()}
	case codec.Raw.Name():
		return plain(payload)
	}
	v = plain(payload)
	v.Error = fmt.Sprintf("the codec %.16q is not one of tandem's", name)
	return v
}

func renderCBOR(payload []byte) *Value {
	var tree any
	err := codec.Default.Unmarshal(payload, &tree)
	if err == nil {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		if err = enc.Encode(forJSON(tree)); err == nil {
			return &Value{JSON: bytes.TrimSpace(out.Bytes())}
		}
	}
	if text, diagnoseErr := cbor.Diagnose(payload[:min(len(payload), maxFieldBytes)]); diagnoseErr == nil {
		return &Value{Diagnostic: text}
	}
	v := plain(payload)
	v.Error = err.Error()
	return v
}

// forJSON turns what the codec gives for an any into what encoding/json can express.
func forJSON(x any) any {
	switch x := x.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for key, value := range x {
			out[textOrHex([]byte(key))] = forJSON(value)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, value := range x {
			out[i] = forJSON(value)
		}
		return out
	case []byte:
		return textOrHex(x)
	case string:
		return textOrHex([]byte(x))
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Sprint(x)
		}
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case *big.Int:
		return json.Number(x.String())
	case cbor.Tag:
		if b, ok := x.Content.([]byte); ok && x.Number == jsonTag && json.Valid(b) {
			return json.RawMessage(b)
		}
		return map[string]any{"cbor tag": x.Number, "content": forJSON(x.Content)}
	}
	return x
}

// plain shows bytes as text if they are, and as hex if not.
func plain(b []byte) *Value {
	shown := b[:min(len(b), maxShown)]
	// Cut where a character begins, unless there is no such place nearby, as in bytes that are no text.
	whole := shown
	for back := 0; len(whole) < len(b) && back < utf8.UTFMax && !utf8.RuneStart(b[len(whole)]); back++ {
		whole = whole[:len(whole)-1]
	}
	if isText(whole) {
		text := string(whole)
		return &Value{Text: &text, Cut: len(b) - len(whole)}
	}
	return &Value{Hex: hex.EncodeToString(shown), Cut: len(b) - len(shown)}
}

func textOrHex(b []byte) string {
	if isText(b) {
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}

func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && !strings.ContainsRune("\n\r\t", r) {
			return false
		}
	}
	return true
}
