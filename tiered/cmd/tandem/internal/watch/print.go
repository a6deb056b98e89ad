package watch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tandemcache/tandem/pubsub"
)

const (
	maxKeys    = 10  // of a message, on the screen
	maxPayload = 200 // bytes of what is unreadable
)

// Print writes an event as a line for people.
func Print(w io.Writer, e Event) {
	at := e.At.Format("15:04:05.000")
	line := ""
	switch {
	case e.Kind == Listening && e.Node != "":
		line = fmt.Sprintf("listening to %s at %s: %d of %d partitions", e.Channel, e.Node, e.Partitions, e.Of)
	case e.Kind == Listening:
		line = "listening to " + e.Channel
	case e.Kind == Looking:
		line = fmt.Sprintf("looking every %v for caches with running instances", surveyEvery)
	case e.Kind == Lost && e.Of > 0:
		line = fmt.Sprintf("%s  NODE LOST: %s (%v): messages of %d of %d partitions may be missed until they are listened to again",
			e.Cache, e.Node, e.Err, e.Partitions, e.Of)
	case e.Kind == Lost:
		line = fmt.Sprintf("CONNECTION LOST (%v): messages may be missed until it is back", e.Err)
	case e.Kind == Unreadable:
		line = fmt.Sprintf("%s  UNREADABLE, instances drop L1: %v: %s", subject(e), e.Err, bounded(e.Payload))
	case e.Kind == Message:
		line = fmt.Sprintf("%s  %s  from %s%s", subject(e), e.Message.Op, quoted(e.Message.Sender), keysText(e.Message))
	}
	_, _ = fmt.Fprintln(w, at+"  "+line) // who has closed the output does not read on
}

func subject(e Event) string {
	if e.Cache == "" {
		return quoted(e.Channel)
	}
	return e.Cache
}

func keysText(m pubsub.Message) string {
	switch m.Op { //nolint:exhaustive // the others have keys
	case pubsub.All:
		return "  every key"
	case pubsub.Ask:
		return "  waits for acknowledgements; this program gives none"
	}
	var b strings.Builder
	for n, key := range m.Keys {
		if n == maxKeys {
			fmt.Fprintf(&b, " and %d more", len(m.Keys)-n)
			break
		}
		b.WriteString(" " + bounded(key))
	}
	return fmt.Sprintf("  %d:%s", len(m.Keys), b.String())
}

func bounded(s string) string {
	if len(s) > maxPayload {
		return strconv.Quote(s[:maxPayload]) + "..."
	}
	return quoted(s)
}

// quoted keeps what others have sent from steering the terminal. What needs no quotes has none.
func quoted(s string) string {
	q := strconv.Quote(s)
	if s != "" && q == `"`+s+`"` && !strings.Contains(s, " ") {
		return s
	}
	return q
}

// jsonLine is an event as JSON. Keys that are not UTF-8 have no form in JSON, so that all are in base64 where one is not.
type jsonLine struct {
	Time       string   `json:"time"`
	Event      Kind     `json:"event"`
	Channel    string   `json:"channel,omitempty"`
	Cache      string   `json:"cache,omitempty"`
	Op         string   `json:"op,omitempty"`
	Sender     string   `json:"sender,omitempty"`
	Keys       []string `json:"keys,omitempty"`
	KeysBase64 []string `json:"keys_base64,omitempty"`
	Payload    string   `json:"payload_base64,omitempty"` // its beginning
	Error      string   `json:"error,omitempty"`
	Node       string   `json:"node,omitempty"`
	Partitions int      `json:"partitions,omitempty"`
	Of         int      `json:"of_partitions,omitempty"`
}

// PrintJSON writes an event as a line of JSON.
func PrintJSON(w io.Writer, e Event) error {
	l := jsonLine{
		Time: e.At.Format(time.RFC3339Nano), Event: e.Kind, Channel: e.Channel, Cache: e.Cache,
		Op: string(e.Message.Op), Sender: e.Message.Sender, Keys: e.Message.Keys,
		Payload: base64.StdEncoding.EncodeToString([]byte(e.Payload[:min(len(e.Payload), maxPayload)])),
		Node:    e.Node, Partitions: e.Partitions, Of: e.Of,
	}
	if e.Err != nil {
		l.Error = e.Err.Error()
	}
	if slices.ContainsFunc(l.Keys, func(key string) bool { return !utf8.ValidString(key) }) {
		for _, key := range l.Keys {
			l.KeysBase64 = append(l.KeysBase64, base64.StdEncoding.EncodeToString([]byte(key)))
		}
		l.Keys = nil
	}
	return json.NewEncoder(w).Encode(l)
}
