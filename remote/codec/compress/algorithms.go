package compress

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// compressed returns b in the algorithm's form, behind the byte that names it.
func compressed(a Algorithm, b []byte) []byte {
	if a == Zstd {
		enc, _ := encoders.Get().(*zstd.Encoder)
		defer encoders.Put(enc)
		dst := make([]byte, 1, 1+len(b)/2)
		dst[0] = inZstd
		return enc.EncodeAll(b, dst)
	}
	dst := make([]byte, 1+s2.MaxEncodedLen(len(b)))
	dst[0] = inS2
	n := len(s2.Encode(dst[1:], b))
	return dst[:1+n]
}

func fromS2(data []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(data)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("it claims to have %d bytes: %w (%d)", n, errSize, limit)
	}
	return s2.Decode(nil, data)
}

var (
	errFrame  = errors.New("not a frame of this package")
	errLength = errors.New("not as long as it claims to be")
)

// fromZstd decodes a frame of the only kind that the encoder here writes: one with its content's size in front, which
// is all that the decoder then needs memory for.
func fromZstd(data []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(data); err != nil {
		return nil, err
	}
	if h.Skippable || !h.SingleSegment || !h.HasFCS || h.DictionaryID != 0 {
		return nil, errFrame
	}
	if h.FrameContentSize > uint64(limit) {
		return nil, fmt.Errorf("it claims to have %d bytes: %w (%d)", h.FrameContentSize, errSize, limit)
	}
	dec, _ := decoders.Get().(*zstd.Decoder)
	// One that has panicked is not used again, so this is not deferred.
	b, err := dec.DecodeAll(data, make([]byte, 0, h.FrameContentSize))
	decoders.Put(dec)
	if err != nil {
		return nil, err
	}
	if uint64(len(b)) != h.FrameContentSize {
		return nil, errLength
	}
	return b, nil
}

// Encoders and decoders are large and slow to make, and each works on one value at a time, on its caller's goroutine.
var (
	encoders = sync.Pool{New: func() any {
		return must(zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithSingleSegment(true), // the decoder needs no window beside the value
			zstd.WithEncoderCRC(false),   // the envelope has a checksum
			zstd.WithLowerEncoderMem(true),
		))
	}}
	decoders = sync.Pool{New: func() any {
		return must(zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(maxMaxDecoded),
			zstd.WithDecodeAllCapLimit(true), // never more than the room that fromZstd has made
		))
	}}
)

// must is for options that are constants of this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic("compress: " + err.Error())
	}
	return v
}
