package pubsub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxMessageBytes is the longest message that is read or written.
	MaxMessageBytes = 1 << 20
	// MaxKeys is the most keys of one message.
	MaxKeys = 1000
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 8 << 10

	header       = "tandem/1 "
	maxNameBytes = 256 // sender, token, channel, outcome
	idBytes      = 16  // of an instance's name
	keyOverhead  = 8   // of a key in a message, at most
)

// ErrMessage is returned for bytes that are not a message of this release, wrapped with the reason.
var ErrMessage = errors.New("unreadable message")

// Op is what a message says.
type Op string

// The operations. Invalidate, Tags, All and Ask travel on a topic's channel, Beat, Wake and Ack on an instance's private one.
const (
	Invalidate Op = "inv"  // Sender, Keys
	Tags       Op = "tags" // Sender, Keys: the tags
	All        Op = "all"  // Sender
	Beat       Op = "beat" // Token
	Wake       Op = "wake" // Channel, Keys (one), Outcome
	Ask        Op = "ask"  // Sender, Token
	Ack        Op = "ack"  // Sender, Token
)

// The outcomes of a Wake.
const (
	Filled = "filled" // the entry is in Redis
	Failed = "failed" // the holder of the lease gave up
)

// Message is one message. Which fields are used depends on Op.
type Message struct {
	Op      Op
	Sender  string   // who tells, for logs alone: no receiver skips its own messages; of an Ask and an Ack the bus' ID
	Keys    []string // what has changed: keys, or tags
	Token   string   // the heartbeat's, or the question's
	Channel string   // the topic that a Wake is for
	Outcome string   // Filled or Failed
}

// Encode returns the message's bytes. It does not check bounds: see Batches.
func (m Message) Encode() []byte {
	b := append(make([]byte, 0, 64+len(m.Keys)*32), header...)
	b = append(b, m.Op...)
	b = append(b, ' ')
	switch m.Op {
	case Invalidate, Tags:
		b = field(b, m.Sender)
		for _, key := range m.Keys {
			b = field(b, key)
		}
	case All:
		b = field(b, m.Sender)
	case Beat:
		b = field(b, m.Token)
	case Wake:
		b = field(b, m.Channel)
		b = field(b, m.Keys[0])
		b = field(b, m.Outcome)
	case Ask, Ack:
		b = field(b, m.Sender)
		b = field(b, m.Token)
	}
	return b
}

func field(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	b = append(b, s...)
	return append(b, ',')
}

// Batches splits keys so that each part fits into one message. No part is empty.
func Batches(keys []string) [][]string {
	var out [][]string
	start, room := 0, NewRoom()
	for i := range keys {
		if room.Take(keys[i : i+1]) {
			continue
		}
		out = append(out, keys[start:i:i])
		start, room = i, NewRoom()
		room.Take(keys[i : i+1])
	}
	if start < len(keys) {
		out = append(out, keys[start:])
	}
	return out
}

// Room is what is left of a message for keys.
type Room struct{ keys, bytes int }

// NewRoom returns the room of a message without keys. Any one key of at most MaxKeyBytes fits into it.
func NewRoom() Room { return Room{keys: MaxKeys, bytes: MaxMessageBytes / 2} }

// Take makes keys a part of the message, and reports whether all of them fit; if not, none is.
func (r *Room) Take(keys []string) bool {
	left := Room{keys: r.keys - len(keys), bytes: r.bytes}
	for _, key := range keys {
		left.bytes -= len(key) + keyOverhead
	}
	if left.keys < 0 || left.bytes < 0 {
		return false
	}
	*r = left
	return true
}

// Parse reads a message. For anything else, and for any that is over a bound, it returns an error that wraps ErrMessage;
// it does not panic on any input. The message shares the input's memory.
func Parse(s string) (Message, error) {
	if len(s) > MaxMessageBytes {
		return Message{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMessage, len(s), MaxMessageBytes)
	}
	rest, ok := strings.CutPrefix(s, header)
	if !ok {
		return Message{}, fmt.Errorf("%w: %.16q does not start with %q", ErrMessage, s, header)
	}
	op, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return Message{}, fmt.Errorf("%w: no operation", ErrMessage)
	}
	m := Message{Op: Op(op)}
	var err error
	switch m.Op {
	case Invalidate, Tags:
		err = m.parseInvalidate(rest)
	case All:
		err = fields(rest, &m.Sender)
	case Beat:
		err = fields(rest, &m.Token)
	case Wake:
		err = m.parseWake(rest)
	case Ask, Ack:
		err = m.parseAsk(rest)
	default:
		err = fmt.Errorf("%w: unknown operation %.16q", ErrMessage, op)
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

func (m *Message) parseInvalidate(rest string) error {
	var err error
	if m.Sender, rest, err = next(rest, maxNameBytes); err != nil {
		return err
	}
	for rest != "" {
		var key string
		if key, rest, err = next(rest, MaxKeyBytes); err != nil {
			return err
		}
		if key == "" {
			return fmt.Errorf("%w: an empty key", ErrMessage)
		}
		if len(m.Keys) == MaxKeys {
			return fmt.Errorf("%w: more than %d keys", ErrMessage, MaxKeys)
		}
		m.Keys = append(m.Keys, key)
	}
	if len(m.Keys) == 0 {
		return fmt.Errorf("%w: no key", ErrMessage)
	}
	return nil
}

func (m *Message) parseWake(rest string) error {
	var key string
	var err error
	if m.Channel, rest, err = next(rest, maxNameBytes); err != nil {
		return err
	}
	if key, rest, err = next(rest, MaxKeyBytes); err != nil {
		return err
	}
	if err := fields(rest, &m.Outcome); err != nil {
		return err
	}
	if key == "" || (m.Outcome != Filled && m.Outcome != Failed) {
		return fmt.Errorf("%w: wake of %.16q with outcome %.16q", ErrMessage, key, m.Outcome)
	}
	m.Keys = []string{key}
	return nil
}

// parseAsk reads an Ask or an Ack. Who asks is answered on a channel that is named after it, so it has to be an id.
func (m *Message) parseAsk(rest string) error {
	if err := fields(rest, &m.Sender, &m.Token); err != nil {
		return err
	}
	if !isID(m.Sender) || m.Token == "" {
		return fmt.Errorf("%w: %s of %.32q with token %.32q", ErrMessage, m.Op, m.Sender, m.Token)
	}
	return nil
}

// isID reports whether s is what ID returns.
func isID(s string) bool { return len(s) == idBytes && strings.Trim(s, "0123456789abcdef") == "" }

// fields reads exactly these fields.
func fields(rest string, into ...*string) error {
	for _, p := range into {
		var err error
		if *p, rest, err = next(rest, maxNameBytes); err != nil {
			return err
		}
	}
	if rest != "" {
		return fmt.Errorf("%w: %d bytes after the last field", ErrMessage, len(rest))
	}
	return nil
}

// next reads one netstring of at most limit bytes. Its length has no sign, no space and no leading zero, so that each
// message has one spelling.
func next(s string, limit int) (value, rest string, err error) {
	n, i := 0, 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
		if n > limit {
			return "", "", fmt.Errorf("%w: a field of more than %d bytes", ErrMessage, limit)
		}
		if i > 0 && s[0] == '0' {
			return "", "", fmt.Errorf("%w: a length with a leading zero", ErrMessage)
		}
	}
	end := i + 1 + n
	if i == 0 || i == len(s) || s[i] != ':' || end >= len(s) || s[end] != ',' {
		return "", "", fmt.Errorf("%w: not a netstring", ErrMessage)
	}
	return s[i+1 : end], s[end+1:], nil
}
