package compress_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func compressing(t testing.TB, inner codec.Codec, opts compress.Options) *compress.Codec {
	t.Helper()
	c, err := compress.New(inner, opts)
	require.NoError(t, err)
	return c
}

// algorithms are the options that a codec is tested with.
var algorithms = map[string]compress.Options{
	"s2":   {Algorithm: compress.S2},
	"zstd": {Algorithm: compress.Zstd},
}

func TestNew_Options(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]compress.Options{
		"algorithm":             {Algorithm: 2},
		"threshold":             {Threshold: -1},
		"max decoded too small": {MaxDecoded: 1},
		"max decoded negative":  {MaxDecoded: -1},
		"max decoded too large": {MaxDecoded: 1 << 30},
	} {
		_, err := compress.New(codec.Raw, opts)
		require.ErrorIs(t, err, compress.ErrInvalidOption, name)
	}
	_, err := compress.New(nil, compress.Options{})
	require.ErrorIs(t, err, compress.ErrInvalidOption)
	_, err = compress.New(named{codec.Raw, "fourteen-bytes"}, compress.Options{})
	require.ErrorContains(t, err, `the name would be "fourteen-bytes-z1"`)
	_, err = compress.New(named{codec.Raw, "thirteen-byte"}, compress.Options{})
	require.NoError(t, err)
}

type named struct {
	codec.Codec

	name string
}

func (n named) Name() string { return n.name }

func TestName_IsPinned(t *testing.T) {
	t.Parallel()
	// It is stored in Redis: another one makes every entry a miss.
	c := compressing(t, codec.Default, compress.Options{})
	require.Equal(t, "cbor-1-z1", c.Name())
}

func TestCodec_IsTransparent(t *testing.T) {
	t.Parallel()
	c := compressing(t, codec.Default, compress.Options{})
	require.NoError(t, codec.Check(c, reflect.TypeFor[user]()))
	require.Error(t, codec.Check(c, reflect.TypeFor[chan int]()))
	require.Equal(t, codec.Fingerprint(codec.Default, reflect.TypeFor[user]()), codec.Fingerprint(c, reflect.TypeFor[user]()))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, opts := range algorithms {
		c := compressing(t, codec.Raw, opts)
		for _, text := range []string{"", "x", random(1023), random(1024), random(1 << 17), strings.Repeat("a", 1023), strings.Repeat("a", 1024), strings.Repeat("words ", 1<<18)} {
			b, err := c.Marshal(text)
			require.NoError(t, err)
			viaPointer, err := c.Marshal(&text)
			require.NoError(t, err)
			require.Equal(t, b, viaPointer)
			require.LessOrEqual(t, len(b), len(text)+1, name)
			before := bytes.Clone(b)
			var out string
			require.NoError(t, c.Unmarshal(b, &out))
			require.Equal(t, text, out, name)
			require.Equal(t, before, b)

			var raw []byte
			require.NoError(t, c.Unmarshal(b, &raw))
			clear(b)
			require.Equal(t, text, string(raw), "it must not keep a reference")
		}
	}
}

// random is text that does not compress.
func random(n int) string {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return string(b)
}

func TestThreshold(t *testing.T) {
	t.Parallel()
	for name, opts := range algorithms {
		opts.Threshold = 200
		c := compressing(t, codec.Raw, opts)
		under, err := c.Marshal(strings.Repeat("a", 199))
		require.NoError(t, err)
		require.Equal(t, "\x00"+strings.Repeat("a", 199), string(under), name)
		over, err := c.Marshal(strings.Repeat("a", 200))
		require.NoError(t, err)
		require.Less(t, len(over), 50, name)
		require.Equal(t, byte(opts.Algorithm)+1, over[0], name)
		stubborn, err := c.Marshal(random(5000))
		require.NoError(t, err)
		require.Equal(t, "\x00"+random(5000), string(stubborn), name)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := compressing(t, codec.Raw, compress.Options{})
	under, err := c.Marshal(strings.Repeat("a", compress.DefaultThreshold-1))
	require.NoError(t, err)
	require.Len(t, under, compress.DefaultThreshold)
	over, err := c.Marshal(strings.Repeat("a", compress.DefaultThreshold))
	require.NoError(t, err)
	require.Equal(t, byte(compress.S2)+1, over[0])
	_, err = c.Marshal(strings.Repeat("a", compress.DefaultMaxDecoded))
	require.NoError(t, err)
	_, err = c.Marshal(strings.Repeat("a", compress.DefaultMaxDecoded+1))
	require.ErrorContains(t, err, "larger than Options.MaxDecoded")
}

func TestReleasesReadEachOther(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("some text ", 500)
	for from, a := range algorithms {
		for to, b := range algorithms {
			a.Threshold = 10
			data, err := compressing(t, codec.Raw, a).Marshal(text)
			require.NoError(t, err)
			var out string
			require.NoError(t, compressing(t, codec.Raw, b).Unmarshal(data, &out))
			require.Equal(t, text, out, "%s to %s", from, to)
		}
	}
}

func TestMaxDecoded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	for name, opts := range algorithms {
		large := compressing(t, codec.Raw, opts)
		opts.MaxDecoded = limit
		small := compressing(t, codec.Raw, opts)

		atLimit, err := small.Marshal(strings.Repeat("a", limit))
		require.NoError(t, err)
		var out string
		require.NoError(t, small.Unmarshal(atLimit, &out))

		_, err = small.Marshal(strings.Repeat("a", limit+1))
		require.ErrorContains(t, err, "larger than Options.MaxDecoded", name)
		for _, text := range []string{strings.Repeat("a", limit+1), random(limit + 1)} {
			bomb, err := large.Marshal(text)
			require.NoError(t, err)
			require.ErrorContains(t, small.Unmarshal(bomb, &out), "larger than Options.MaxDecoded", name)
		}
	}
}

func TestUnmarshal_RefusesBadBytes(t *testing.T) {
	t.Parallel()
	for name, opts := range algorithms {
		c := compressing(t, codec.Raw, opts)
		b, err := c.Marshal(strings.Repeat("some text ", 500))
		require.NoError(t, err)
		var out string
		for i := range b {
			require.Error(t, c.Unmarshal(b[:i], &out), "%s cut at %d", name, i)
		}
		require.Error(t, c.Unmarshal(append(bytes.Clone(b), 0), &out), name)
		require.Error(t, c.Unmarshal(append(bytes.Clone(b), b[1:]...), &out), name)
		b[0] = 3
		require.ErrorContains(t, c.Unmarshal(b, &out), "not one of a known way", name)
	}
}

// TestUnmarshal_RefusesOtherFrames has what a zstd decoder understands and this package does not write.
func TestUnmarshal_RefusesOtherFrames(t *testing.T) {
	t.Parallel()
	c := compressing(t, codec.Raw, compress.Options{})
	text := []byte(strings.Repeat("some text ", 500))
	enc, err := zstd.NewWriter(nil, zstd.WithSingleSegment(false), zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	defer func() { require.NoError(t, enc.Close()) }()
	var stream bytes.Buffer
	enc.Reset(&stream)
	_, err = enc.Write(text)
	require.NoError(t, err)
	require.NoError(t, enc.Close())
	skippable := append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 4), 1, 2, 3, 4)
	var out string
	for name, frame := range map[string][]byte{"no content size": stream.Bytes(), "skippable": skippable} {
		require.ErrorContains(t, c.Unmarshal(append([]byte{2}, frame...), &out), "not a frame of this package", name)
	}
}

// TestUnmarshal_AllocatesInProportion is not parallel: what it measures is all that the process allocates.
func TestUnmarshal_AllocatesInProportion(t *testing.T) { //nolint:paralleltest // see above
	const limit = 1 << 20
	c := compressing(t, codec.Raw, compress.Options{MaxDecoded: limit})
	large := compressing(t, codec.Raw, compress.Options{Algorithm: compress.Zstd, MaxDecoded: 64 << 20})
	bomb, err := large.Marshal(strings.Repeat("\x00", 64<<20))
	require.NoError(t, err)
	// The same frame, with a content size of 60 KiB in place of 64 MiB. The size has 4 bytes after the magic number and
	// the descriptor.
	liar := bytes.Clone(bomb)
	binary.LittleEndian.PutUint32(liar[6:], 60<<10)
	bombs := map[string][]byte{
		"s2 of 4 GiB":            {1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"zstd of 64 MiB":         bomb,
		"zstd claims too few":    liar,
		"zstd claims 2^63":       {2, 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80},
		"zstd window of 3.75 TB": {2, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0},
	}
	for name, data := range bombs {
		var out string
		// The first one makes the decoder.
		_ = c.Unmarshal(data, &out)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.Error(t, c.Unmarshal(data, &out), name)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*limit), name)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, opts := range algorithms {
		c := compressing(f, codec.Raw, opts)
		for _, text := range []string{"", "x", strings.Repeat("some text ", 500), random(2000)} {
			b, err := c.Marshal(text)
			require.NoError(f, err)
			f.Add(b)
		}
	}
	c := compressing(f, codec.Raw, compress.Options{MaxDecoded: 64 << 10})
	f.Fuzz(func(t *testing.T, data []byte) {
		var out, again string
		if c.Unmarshal(data, &out) != nil {
			return
		}
		require.LessOrEqual(t, len(out), 64<<10)
		b, err := c.Marshal(out)
		require.NoError(t, err)
		require.NoError(t, c.Unmarshal(b, &again))
		require.Equal(t, out, again)
	})
}
