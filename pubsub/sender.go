package pubsub

import (
	"strconv"
	"strings"
)

// MaxCarried is the longest text that a message carries for its sender's observer.
const MaxCarried = 128

// maxStampDigits bounds a time in ms: enough for thirty thousand years.
const maxStampDigits = 15

// Sender is what a message tells of who sent it, for logs, metrics and traces alone: nothing is decided by it, and what it
// says may be anybody's invention. As text it is the id, and then, each behind a semicolon, "t=" with the time and "c=" with
// what is carried. A part that is not known or not as it should be is ignored, so releases read each other's.
type Sender struct {
	// ID is the sending bus', or whatever a foreign sender calls itself.
	ID string
	// At is the time of Redis in ms at which it was sent, as far as the sender knows it; zero if it does not tell.
	At int64
	// Carried is a text of the sender's observer, empty if there is none: at most MaxCarried bytes of printable ASCII without
	// space and semicolon.
	Carried string
}

// String returns the text for Message.Sender. What ParseSender would not accept is left out.
func (s Sender) String() string {
	if s.At <= 0 && s.Carried == "" {
		return s.ID
	}
	b := append(make([]byte, 0, len(s.ID)+len(s.Carried)+maxStampDigits+8), s.ID...)
	if s.At > 0 {
		b = append(b, ";t="...)
		b = strconv.AppendInt(b, s.At, 10)
	}
	if Carriable(s.Carried) {
		b = append(b, ";c="...)
		b = append(b, s.Carried...)
	}
	return string(b)
}

// ParseSender reads Message.Sender. It accepts any text, and allocates nothing.
func ParseSender(text string) Sender {
	id, rest, more := strings.Cut(text, ";")
	s := Sender{ID: id}
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ";")
		if stamp, ok := strings.CutPrefix(part, "t="); ok && s.At == 0 {
			s.At = parseStamp(stamp)
		}
		if carried, ok := strings.CutPrefix(part, "c="); ok && s.Carried == "" && Carriable(carried) {
			s.Carried = carried
		}
	}
	return s
}

func parseStamp(s string) int64 {
	if len(s) > maxStampDigits {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0
	}
	return int64(n)
}

// Carriable reports whether a message can carry text.
func Carriable(text string) bool {
	if text == "" || len(text) > MaxCarried {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == ';' {
			return false
		}
	}
	return true
}
