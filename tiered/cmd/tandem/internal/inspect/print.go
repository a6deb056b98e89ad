package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxLines and maxLineBytes bound a value on the screen; -json shows all of it.
	maxLines     = 60
	maxLineBytes = 400
)

// Print writes the entry for people.
func (e *Entry) Print(w io.Writer) {
	p := printer{w}
	p.linef("%s", quoted(e.RedisKey))
	p.fact("cache", e.Cache)
	p.fact("key", quoted(e.Key))
	p.fact("Redis type", e.Type)
	p.fact("TTL", ttlText(e.TTL))
	if e.Epoch == "" {
		p.fact("cache's epoch", "none that can be read: nothing of this cache is live")
	} else {
		p.fact("cache's epoch", e.Epoch)
	}
	if e.Note != "" {
		p.fact("note", e.Note)
	}
	for _, s := range e.Schemas {
		p.schema(s)
	}
	for _, field := range e.Foreign {
		p.linef("")
		p.linef("  field %s: not an entry's", quoted(field))
	}
}

type printer struct{ w io.Writer }

func (p printer) linef(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	_, _ = io.WriteString(p.w, text+"\n") // who has closed the output does not read on
}

func (p printer) fact(name, value string) { p.linef("  %-14s %s", name, value) }

func (p printer) schema(s *Schema) {
	p.linef("")
	p.linef("  schema %s", s.Field)
	if s.State != StateNone {
		p.fact("  state", stateText(s))
	} else {
		p.fact("  state", "no value")
	}
	if s.Bytes > 0 {
		p.fact("  size", fmt.Sprintf("%d bytes, %d of them the value's", s.Bytes, s.PayloadBytes))
	}
	if s.ChecksumOK {
		p.fact("  checksum", "holds")
		p.fact("  codec", fmt.Sprintf("%s, type %s", s.Codec, s.Type))
		p.fact("  epoch", s.Epoch+map[bool]string{true: ", the current one", false: ", not the current one"}[s.EpochCurrent])
		p.fact("  age", millis(s.Age))
		p.fact("  expires", expiresText(s.ExpiresIn))
		if s.tagged {
			p.fact("  tags", tagsText(s.Tags))
		}
	}
	if s.Lease != nil {
		p.fact("  lease", leaseText(s.Lease))
	}
	if len(s.Waiters) > 0 {
		p.fact("  waiting", fmt.Sprintf("%d: %s", len(s.Waiters), quoted(strings.Join(s.Waiters, " "))))
	}
	if s.Absent {
		p.fact("  value", "known not to exist")
	}
	if s.Value != nil {
		p.value(s.Value)
	}
}

func (p printer) value(v *Value) {
	if v.Error != "" {
		p.fact("  not decoded", clean(v.Error))
	}
	text := ""
	switch {
	case v.JSON != nil:
		var out bytes.Buffer
		if json.Indent(&out, v.JSON, "", "  ") == nil {
			text = out.String()
		}
	case v.Diagnostic != "":
		text = v.Diagnostic
	case v.Text != nil:
		text = *v.Text
	default:
		text = "0x" + v.Hex
	}
	p.fact("  value", "")
	lines := strings.Split(text, "\n")
	for n, line := range lines {
		if n == maxLines {
			p.linef("      ... %d more lines (-json shows all)", len(lines)-n)
			break
		}
		line = clean(line)
		if len(line) > maxLineBytes {
			line = fmt.Sprintf("%s ... %d more bytes (-json shows all)", strings.ToValidUTF8(line[:maxLineBytes], ""), len(line)-maxLineBytes)
		}
		p.linef("      %s", line)
	}
	if v.Cut > 0 {
		p.linef("      ... %d more bytes", v.Cut)
	}
}

// quoted and clean keep what others have stored from steering the terminal.
func quoted(s string) string {
	if s != "" && clean(s) == s {
		return s
	}
	return strconv.Quote(s)
}

func clean(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\t':
			b.WriteString("    ")
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func millis(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func ttlText(ms int64) string {
	if ms < 0 {
		return "none, which tandem never leaves"
	}
	return millis(ms)
}

func expiresText(ms int64) string {
	if ms <= 0 {
		return millis(-ms) + " ago"
	}
	return "in " + millis(ms)
}

func stateText(s *Schema) string {
	text := map[State]string{
		StateLive:        "live",
		StateInvalidated: "invalidated, with the whole cache: its epoch has ended",
		StateExpired:     "expired",
		StateCorrupt:     "corrupt, a miss to readers",
		StateForeign:     "foreign, a miss to readers",
		StateTooLarge:    "too large",
	}[s.State]
	if s.State == StateInvalidated && s.EpochCurrent {
		text = "invalidated, by a tag"
	}
	if s.Error != "" {
		text += ": " + clean(s.Error)
	}
	return text
}

func leaseText(l *Lease) string {
	switch {
	case l.Error != "":
		return clean(l.Error)
	case l.Remaining <= 0:
		return fmt.Sprintf("of %s..., ended %s ago: the next who asks gets it", l.Holder, millis(-l.Remaining))
	}
	return fmt.Sprintf("held by %s..., %s left", l.Holder, millis(l.Remaining))
}
