package codec

import (
	"encoding/json"
	"fmt"
)

// JSON is the codec of encoding/json: readable in redis-cli and by other languages, and slower than Default (see the
// package comment). Its losses are those of encoding/json: in an any, numbers become float64 and bytes become base64
// text; strings that are not UTF-8 are changed; NaN and Inf are errors.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

const jsonName = "json"

func (jsonCodec) Name() string { return jsonName }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("codec %s: %w", jsonName, err)
	}
	return b, nil
}

func (jsonCodec) Unmarshal(data []byte, v any) (err error) {
	defer contain(jsonName, v, &err)
	if err := json.Unmarshal(data, v); err != nil {
		return decodeError(jsonName, v, err)
	}
	return nil
}
