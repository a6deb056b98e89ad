package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/script"
)

// ErrTag is returned for a tag that is empty or longer than MaxTagBytes, and for more than MaxTags of them.
var ErrTag = errors.New("invalid tag")

// CheckTag returns an error that wraps ErrTag and says why, or nil. Any bytes may stand in a tag.
func CheckTag(tag string) error {
	switch {
	case tag == "":
		return fmt.Errorf("%w: it is empty", ErrTag)
	case len(tag) > MaxTagBytes:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrTag, len(tag), MaxTagBytes)
	}
	return nil
}

// CheckTags is CheckTag for all tags of an entry.
func CheckTags(tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%w: there are %d, at most %d are allowed", ErrTag, len(tags), MaxTags)
	}
	for _, tag := range tags {
		if err := CheckTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// TagsOverhead is what these tags add to an envelope beyond EnvelopeOverhead.
func TagsOverhead(tags []string) int {
	n := 1 + len(tags)
	for _, tag := range tags {
		n += len(tag)
	}
	return n
}

func (e Envelope) checkTags() error {
	if !e.Tagged && len(e.Tags) > 0 || e.Tagged && e.Absent {
		return fmt.Errorf("%w: tags of an entry that has none", ErrTag)
	}
	return CheckTags(e.Tags)
}

func appendTags(b []byte, tags []string) []byte {
	b = append(b, byte(len(tags)))
	for _, tag := range tags {
		b = append(b, byte(len(tag)))
		b = append(b, tag...)
	}
	return b
}

// cutTags reads the tags that b begins with, and returns the rest.
func cutTags(b []byte) (tags []string, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > MaxTags {
		return nil, nil, false
	}
	n, b := int(b[0]), b[1:]
	for range n {
		if len(b) == 0 {
			return nil, nil, false
		}
		end := 1 + int(b[0])
		if end == 1 || len(b) < end {
			return nil, nil, false
		}
		tags = append(tags, string(b[1:end]))
		b = b[end:]
	}
	return tags, b, true
}

// tellsTags reports whether an envelope that is not decoded tells tags, one at least: Redis has to be asked whether they stand.
func tellsTags(envelope []byte) bool {
	if len(envelope) < headerBytes || envelope[0] != 'T' || envelope[1] != 'D' || envelope[2] != envelopeFormat || envelope[3]&flagTagged == 0 {
		return false
	}
	at := headerBytes + int(envelope[offCodec])
	return len(envelope) <= at || envelope[at] > 0
}

// readCall is what readScript is given for an entry.
func (r *reads) readCall(e entry) script.Call {
	return script.Call{Keys: []string{e.key, e.part.epoch}, Args: []any{r.field, r.field + tagSuffix}}
}

// standing reads an entry whose tags have to be looked at. Who calls counts one command.
func (r *reads) standing(ctx context.Context, e entry) ([]byte, error) {
	call := r.readCall(e)
	var sent atomic.Uint64
	value, err := bytesOf(readScript.RunCounted(ctx, &sent, r.client, call.Keys, call.Args...))
	r.sent.Add(sent.Load() - 1)
	return value, err
}

// standingMany is standing for several, in one round trip.
func (r *reads) standingMany(ctx context.Context, entries []entry) []answer {
	calls := make([]script.Call, len(entries))
	for i, e := range entries {
		calls[i] = r.readCall(e)
	}
	out := make([]answer, len(entries))
	var sent atomic.Uint64
	for i, cmd := range readScript.RunMany(ctx, &sent, r.client, calls) {
		out[i].value, out[i].err = bytesOf(cmd)
	}
	r.sent.Add(sent.Load() - uint64(len(entries)))
	return out
}

func bytesOf(cmd *redis.Cmd) ([]byte, error) {
	text, err := cmd.Text()
	if err != nil {
		return nil, err
	}
	return []byte(text), nil
}
