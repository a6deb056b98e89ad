package inspect

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/tandemcache/tandem/remote"
)

// State is what a reader makes of an envelope.
type State string

// The states.
const (
	StateNone        State = ""            // there is no envelope
	StateLive        State = "live"        // it is returned
	StateInvalidated State = "invalidated" // with the whole cache, or by a tag
	StateExpired     State = "expired"
	StateCorrupt     State = "corrupt"
	StateForeign     State = "foreign"
	StateTooLarge    State = "too large"
)

// Schema is what is stored for one codec and type.
type Schema struct {
	Field string `json:"field"`
	State State  `json:"state,omitempty"`
	Error string `json:"error,omitempty"`

	Bytes        int    `json:"bytes,omitempty"` // of the envelope
	PayloadBytes int    `json:"payload_bytes,omitempty"`
	Codec        string `json:"codec,omitempty"`
	Type         string `json:"type_fingerprint,omitempty"`
	ChecksumOK   bool   `json:"checksum_ok"`
	Epoch        string `json:"epoch,omitempty"`
	EpochCurrent bool   `json:"epoch_current"`
	Age          int64  `json:"age_ms"`        // since the load began
	ExpiresIn    int64  `json:"expires_in_ms"` // negative: since then
	Absent       bool   `json:"known_not_to_exist,omitempty"`
	Tags         []*Tag `json:"tags,omitempty"`
	Value        *Value `json:"value,omitempty"`

	Lease   *Lease   `json:"lease,omitempty"`
	Waiters []string `json:"waiters,omitempty"` // private channels of instances

	tagged   bool
	versions string // of the tags, when the value was stored
}

func (s *Schema) fail(state State, why string) { s.State, s.Error = state, why }

func (s *Schema) readEnvelope(b []byte, e *Entry) {
	s.Bytes = len(b)
	env, err := remote.Decode(b, e.Key)
	if err != nil {
		state := StateForeign
		if errors.Is(err, remote.ErrCorrupt) {
			state = StateCorrupt
		}
		s.fail(state, err.Error())
		return
	}
	s.ChecksumOK = true
	s.Codec, s.Type = env.Schema.Codec, fmt.Sprintf("%016x", env.Schema.Type)
	s.Epoch = remote.EpochText(env.Epoch)
	s.EpochCurrent = e.epoch != nil && *e.epoch == env.Epoch
	now := e.now.UnixMilli()
	s.Age, s.ExpiresIn = now-env.Created, env.Expires-now
	s.Absent, s.PayloadBytes, s.tagged = env.Absent, len(env.Payload), env.Tagged
	for _, tag := range env.Tags {
		s.Tags = append(s.Tags, &Tag{Name: tag})
	}
	switch {
	case env.Schema.Field() != s.Field:
		s.fail(StateForeign, fmt.Sprintf("the envelope is of the schema %q", env.Schema.Field()))
	case !s.EpochCurrent:
		s.State = StateInvalidated
	case s.ExpiresIn <= 0:
		s.State = StateExpired
	default:
		s.State = StateLive
	}
	if !env.Absent {
		s.Value = render(env.Schema.Codec, env.Payload)
	}
}

// Lease is the right of one instance to load the value.
type Lease struct {
	Holder    string `json:"holder_prefix,omitempty"` // the first digits of its token
	Remaining int64  `json:"remaining_ms"`            // negative: it ended, and the next who asks gets it
	Error     string `json:"error,omitempty"`
}

var leaseValue = regexp.MustCompile(`^([0-9]{13}):([0-9a-f]{32})$`)

// holderDigits are enough to tell holders apart, and too few to pass for one.
const holderDigits = 8

func readLease(value string, now time.Time) *Lease {
	m := leaseValue.FindStringSubmatch(value)
	if m == nil {
		return &Lease{Error: fmt.Sprintf("not a lease: %.48q", value)}
	}
	expires, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return &Lease{Error: err.Error()}
	}
	return &Lease{Holder: m[2][:holderDigits], Remaining: expires - now.UnixMilli()}
}
