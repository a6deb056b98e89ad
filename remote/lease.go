package remote

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // G505: names a value to a script, nothing depends on it being hard to forge
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/script"
)

// Token is the proof of holding a lease: 128 random bits in hex, new for each attempt.
type Token string

const tokenBytes = 32

// NewToken returns a token that nobody else has.
func NewToken() Token {
	var b [tokenBytes / 2]byte
	// crypto/rand.Read does not fail: it ends the process if the system has no randomness.
	_, _ = rand.Read(b[:])
	return Token(hex.EncodeToString(b[:]))
}

// Seen says what the caller of Acquire makes of a value that it finds.
type Seen string

const (
	// Wanted says that a value that is there is the answer.
	Wanted Seen = ""
	// Unwanted says that it loads whatever is there, and takes the lease from whoever holds it.
	Unwanted Seen = "*"
)

// Unusable is for a caller that has read these bytes and cannot use them: it wants any other value, and the lease if
// these are still there. Without it a foreign value would be handed back for ever.
func Unusable(value []byte) Seen {
	sum := sha1.Sum(value) //nolint:gosec // G401: see the import
	return Seen(hex.EncodeToString(sum[:]))
}

// Outcome is what Acquire came to.
type Outcome int

// The numbers are those of acquire.lua.
const (
	Acquired Outcome = iota + 1 // the lease is the caller's
	Found                       // a value is there
	Held                        // somebody else holds the lease; the caller's channel will be told
)

// Lease is Acquire's answer.
type Lease struct {
	Outcome Outcome
	// Epoch is that of the key's partition at that moment, Now the time of Redis in ms.
	Epoch uint64
	Now   int64
	// Value is the envelope's bytes if Outcome is Found.
	Value []byte
	// Token is what the lease is held under if Outcome is Acquired: the caller's, or, of a shared one, who came first.
	Token Token
	// AsOf is what the counter of tags said, if Outcome is Acquired and Options.Tagged is set; for Filling.
	AsOf string
}

// Acquire takes the right to load key's entry, for ttl at most. inbox is the private channel that is told when another
// holder is done; in a cluster it is in the slot of key's partition. A value of more than Options.MaxBytes counts as none. A lease that this very token holds already counts as
// acquired, so that an attempt whose reply was lost can be repeated. With Options.Shared nobody holds it alone.
func (s *Store) Acquire(ctx context.Context, key string, token Token, seen Seen, ttl time.Duration, inbox string) (Lease, error) {
	l, err := acquired(s.call(ctx, acquireScript, s.acquireCall(key, token, seen, ttl, inbox)))
	s.bytesRead.Add(uint64(len(l.Value)))
	return l, err
}

func (s *Store) acquireCall(key string, token Token, seen Seen, ttl time.Duration, inbox string) script.Call {
	e := s.entry(key)
	call := script.Call{Keys: []string{e.key, e.part.epoch}, Args: []any{
		s.field, s.field + leaseSuffix, s.field + waiterSuffix,
		string(token), ttl.Milliseconds(), string(seen), inbox, formatEpoch(NewEpoch()), epochTTL.Milliseconds(), s.maxBytes, s.shared,
	}}
	if s.tagged {
		call.Args = append(call.Args, formatEpoch(NewEpoch()))
	}
	return call
}

func acquired(cmd *redis.Cmd) (Lease, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return Lease{}, err
	}
	l, err := parseLease(reply)
	if err != nil {
		return Lease{}, fmt.Errorf("acquire.lua answered %d values: %w", len(reply), err)
	}
	return l, nil
}

func parseLease(reply []any) (Lease, error) {
	if len(reply) < 3 {
		return Lease{}, errReply
	}
	code, okCode := reply[0].(int64)
	epochText, okEpoch := reply[1].(string)
	now, okNow := reply[2].(int64)
	epoch, err := ParseEpoch(epochText)
	if !okCode || !okEpoch || !okNow || err != nil || code < int64(Acquired) || code > int64(Held) {
		return Lease{}, errReply
	}
	l := Lease{Outcome: Outcome(code), Epoch: epoch, Now: now}
	if l.Outcome == Held {
		return l, nil
	}
	if len(reply) < 4 {
		return Lease{}, errReply
	}
	text, ok := reply[3].(string)
	if !ok {
		return Lease{}, errReply
	}
	if l.Outcome == Found {
		l.Value = []byte(text)
	} else {
		l.Token = Token(text)
		if len(reply) > 4 {
			l.AsOf, _ = reply[4].(string)
		}
	}
	return l, nil
}

// Renew extends the lease to ttl from now if it is still token's; false means it is not and never will be again.
func (s *Store) Renew(ctx context.Context, key string, token Token, ttl time.Duration) (bool, error) {
	return done(s.call(ctx, renewScript, s.renewCall(s.keys.Entry(key), token, ttl)))
}

func (s *Store) renewCall(entry string, token Token, ttl time.Duration) script.Call {
	return script.Call{Keys: []string{entry}, Args: []any{s.field + leaseSuffix, string(token), ttl.Milliseconds()}}
}

// Fill stores an envelope for ttl if the lease is still token's and the epoch is still the one that the load began in.
// False means that it was refused: an invalidation came between. Those who wait are sent wake.
//
// An envelope that tells tags is for FillWith.
func (s *Store) Fill(ctx context.Context, key string, token Token, envelope []byte, ttl time.Duration, epoch uint64, wake []byte) (bool, error) {
	return s.FillWith(ctx, Filling{Key: key, Token: token, Envelope: envelope, TTL: ttl, Epoch: epoch, Wake: wake})
}

// FillWith is Fill. It also refuses if one of the envelope's tags was invalidated since f.AsOf, or may have been.
func (s *Store) FillWith(ctx context.Context, f Filling) (bool, error) {
	stored, err := done(s.call(ctx, fillScript, s.fillCall(f)))
	s.wrote(stored, f.Envelope)
	return stored, err
}

func (s *Store) fillCall(f Filling) script.Call {
	e := s.entry(f.Key)
	call := script.Call{Keys: []string{e.key, e.part.epoch}, Args: []any{
		s.field, s.field + leaseSuffix, s.field + waiterSuffix,
		string(f.Token), f.Envelope, f.TTL.Milliseconds(), formatEpoch(f.Epoch), f.Wake, s.shared,
	}}
	if tellsTags(f.Envelope) {
		call.Args = append(call.Args, f.AsOf)
	}
	return call
}

// Release gives the lease up if it is still token's, and sends wake to those who wait.
func (s *Store) Release(ctx context.Context, key string, token Token, wake []byte) error {
	return s.call(ctx, releaseScript, s.releaseCall(s.keys.Entry(key), token, wake)).Err()
}

func (s *Store) releaseCall(entry string, token Token, wake []byte) script.Call {
	return script.Call{Keys: []string{entry}, Args: []any{s.field + leaseSuffix, s.field + waiterSuffix, string(token), wake}}
}

// done reads the answer of a script that says 1 where it did what it is for.
func done(cmd *redis.Cmd) (bool, error) {
	n, err := cmd.Int()
	return n == 1, err
}
