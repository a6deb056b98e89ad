package remote

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// epochTTL outlives every entry's in practice, and is renewed by the heartbeat of every instance. An epoch that expires
// or is evicted all the same is replaced by a new random one, which costs a cold cache and never an old value.
const epochTTL = 30 * 24 * time.Hour

var errReply = errors.New("unexpected reply of a script")

// NewEpoch returns a random epoch. Random and not counted: a counter that Redis lost would come to the same number again.
func NewEpoch() uint64 { return rand.Uint64() }

func formatEpoch(e uint64) string { return fmt.Sprintf("%016x", e) }

// EpochText returns e as Redis holds it, in 16 hex digits.
func EpochText(e uint64) string { return formatEpoch(e) }

// ParseStoredEpoch reads the string that Redis holds: the epoch, a colon, and what the heartbeat notes there.
func ParseStoredEpoch(s string) (uint64, error) {
	text, _, ok := strings.Cut(s, ":")
	if !ok {
		return 0, fmt.Errorf("epoch %.80q: there must be a colon", s)
	}
	return ParseEpoch(text)
}

// ParseEpoch reads an epoch as scripts and the heartbeat report it.
func ParseEpoch(s string) (uint64, error) {
	if len(s) != 16 {
		return 0, fmt.Errorf("epoch %.32q: it must have 16 hex digits", s)
	}
	e, err := strconv.ParseUint(s, 16, 64)
	if err != nil || formatEpoch(e) != s { // scripts compare the text
		return 0, fmt.Errorf("epoch %q: it must have 16 hex digits", s)
	}
	return e, nil
}
