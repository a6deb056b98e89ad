package pubsub

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func everyByte() string {
	var b strings.Builder
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String()
}

func numbered(n, length int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%0*d", length, i)
	}
	return keys
}

func TestMessagesRoundTrip(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxNameBytes)
	for name, tc := range map[string]struct {
		m    Message
		text string // as documented, if short enough
	}{
		"one key":          {Message{Op: Invalidate, Sender: "shell", Keys: []string{"42"}}, "tandem/1 inv 5:shell,2:42,"},
		"two keys":         {Message{Op: Invalidate, Sender: "shell", Keys: []string{"42", "43"}}, "tandem/1 inv 5:shell,2:42,2:43,"},
		"no sender":        {Message{Op: Invalidate, Keys: []string{"42"}}, "tandem/1 inv 0:,2:42,"},
		"the same twice":   {Message{Op: Invalidate, Sender: "s", Keys: []string{"a", "a"}}, "tandem/1 inv 1:s,1:a,1:a,"},
		"any bytes":        {Message{Op: Invalidate, Sender: everyByte(), Keys: []string{everyByte(), ",", ":", "1:x,", " ", "\x00"}}, ""},
		"longest key":      {Message{Op: Invalidate, Sender: long, Keys: []string{strings.Repeat("k", MaxKeyBytes)}}, ""},
		"most keys":        {Message{Op: Invalidate, Sender: "s", Keys: numbered(MaxKeys, 4)}, ""},
		"tags":             {Message{Op: Tags, Sender: "shell", Keys: []string{"team:7", "red"}}, "tandem/1 tags 5:shell,6:team:7,3:red,"},
		"all":              {Message{Op: All, Sender: "shell"}, "tandem/1 all 5:shell,"},
		"all, no sender":   {Message{Op: All}, "tandem/1 all 0:,"},
		"beat":             {Message{Op: Beat, Token: "0123456789abcdef0123456789abcdef"}, "tandem/1 beat 32:0123456789abcdef0123456789abcdef,"},
		"beat, no token":   {Message{Op: Beat}, "tandem/1 beat 0:,"},
		"wake":             {Message{Op: Wake, Channel: "tandem:{u}:bus:0", Keys: []string{"42"}, Outcome: Filled}, "tandem/1 wake 16:tandem:{u}:bus:0,2:42,6:filled,"},
		"wake, failed":     {Message{Op: Wake, Channel: "c", Keys: []string{"42"}, Outcome: Failed}, "tandem/1 wake 1:c,2:42,6:failed,"},
		"ask":              {Message{Op: Ask, Sender: "0123456789abcdef", Token: "t"}, "tandem/1 ask 16:0123456789abcdef,1:t,"},
		"ack":              {Message{Op: Ack, Sender: "0123456789abcdef", Token: "t"}, "tandem/1 ack 16:0123456789abcdef,1:t,"},
		"wake, no channel": {Message{Op: Wake, Keys: []string{strings.Repeat("k", MaxKeyBytes)}, Outcome: Failed}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := tc.m.Encode()
			if tc.text != "" {
				require.Equal(t, tc.text, string(b))
			}
			got, err := Parse(string(b))
			require.NoError(t, err)
			require.Equal(t, tc.m, got)
			require.Equal(t, b, got.Encode())
		})
	}
}

func TestParseRefusesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	over := strings.Repeat("x", maxNameBytes+1)
	name := func(s string) string { return strconv.Itoa(len(s)) + ":" + s + "," }
	keys := func(n int) string { return strings.Repeat("1:k,", n) }
	for s, says := range map[string]string{
		"":                           "does not start",
		"tandem/1":                   "does not start",
		"tandem/2 all 1:s,":          "does not start",
		"Tandem/1 all 1:s,":          "does not start",
		" tandem/1 all 1:s,":         "does not start",
		"tandem/1  all 1:s,":         "unknown operation",
		"tandem/1 ":                  "no operation",
		"tandem/1 all":               "no operation",
		"tandem/1 all ":              "not a netstring",
		"tandem/1 ALL 1:s,":          "unknown operation",
		"tandem/1 flush 1:s,":        "unknown operation",
		"tandem/1 all 1:s":           "not a netstring",
		"tandem/1 all 1:s;":          "not a netstring",
		"tandem/1 all 1;s,":          "not a netstring",
		"tandem/1 all 2:s,":          "not a netstring",
		"tandem/1 all 0:s,":          "not a netstring",
		"tandem/1 all :s,":           "not a netstring",
		"tandem/1 all ,":             "not a netstring",
		"tandem/1 all 1":             "not a netstring",
		"tandem/1 all 1:":            "not a netstring",
		"tandem/1 all 01:s,":         "leading zero",
		"tandem/1 all 00:,":          "leading zero",
		"tandem/1 all +1:s,":         "not a netstring",
		"tandem/1 all -1:s,":         "not a netstring",
		"tandem/1 all  1:s,":         "not a netstring",
		"tandem/1 all 1 :s,":         "not a netstring",
		"tandem/1 all 1:s, ":         "after the last field",
		"tandem/1 all 1:s,\n":        "after the last field",
		"tandem/1 all 1:s,1:k,":      "after the last field",
		"tandem/1 all \u0661:s,":     "not a netstring",
		"tandem/1 all " + name(over): "more than 256 bytes",
		"tandem/1 all 99999999999999999999999999:s,":                   "more than 256 bytes",
		"tandem/1 all 18446744073709551617:s,":                         "more than 256 bytes",
		"tandem/1 all " + strings.Repeat("0", 1000):                    "leading zero",
		"tandem/1 inv 1:s,":                                            "no key",
		"tandem/1 inv ":                                                "not a netstring",
		"tandem/1 inv 1:s,0:,":                                         "an empty key",
		"tandem/1 inv 1:s,1:a,0:,":                                     "an empty key",
		"tandem/1 inv 1:s,1:a":                                         "not a netstring",
		"tandem/1 inv 1:s,1:a,x":                                       "not a netstring",
		"tandem/1 inv 1:s,01:a,":                                       "leading zero",
		"tandem/1 inv " + name(over) + "1:a,":                          "more than 256 bytes",
		"tandem/1 inv 1:s," + name(strings.Repeat("k", MaxKeyBytes+1)): "more than 8192 bytes",
		"tandem/1 inv 1:s," + keys(MaxKeys+1):                          "more than 1000 keys",
		"tandem/1 beat ":                                               "not a netstring",
		"tandem/1 beat 1:t,1:t,":                                       "after the last field",
		"tandem/1 beat " + name(over):                                  "more than 256 bytes",
		"tandem/1 ask 16:0123456789abcdef,":                            "not a netstring",
		"tandem/1 ask 16:0123456789abcdef,0:,":                         "token",
		"tandem/1 ask 16:0123456789abcdef,1:t,1:t,":                    "after the last field",
		"tandem/1 ask 16:0123456789abcdeF,1:t,":                        "token",
		"tandem/1 ask 15:0123456789abcde,1:t,":                         "token",
		"tandem/1 ask 17:0123456789abcdef0,1:t,":                       "token",
		"tandem/1 ask 16:0123456789abcdef," + name(over):               "more than 256 bytes",
		"tandem/1 ack 1:x,1:t,":                                        "token",
		"tandem/1 wake 1:c,1:k,":                                       "not a netstring",
		"tandem/1 wake 1:c,":                                           "not a netstring",
		"tandem/1 wake ":                                               "not a netstring",
		"tandem/1 wake 1:c,1:k,6:filled,1:x,":                          "after the last field",
		"tandem/1 wake 1:c,0:,6:filled,":                               "wake of",
		"tandem/1 wake 1:c,1:k,4:done,":                                "outcome",
		"tandem/1 wake 1:c,1:k,0:,":                                    "outcome",
		"tandem/1 wake 1:c,1:k,6:Filled,":                              "outcome",
		"tandem/1 wake " + name(over) + "1:k,6:filled,":                "more than 256 bytes",
		"tandem/1 wake 1:c," + name(strings.Repeat("k", MaxKeyBytes+1)) + "6:filled,": "more than 8192 bytes",
		"tandem/1 wake 1:c,1:k," + name(over):                                         "more than 256 bytes",
		strings.Repeat("x", MaxMessageBytes+1):                                        "at most 1048576 are allowed",
		"tandem/1 all 1:s," + strings.Repeat(" ", MaxMessageBytes):                    "at most 1048576 are allowed",
		strings.Repeat("\xff", 100):                                                   "does not start",
	} {
		m, err := Parse(s)
		require.ErrorIs(t, err, ErrMessage, "%.64q", s)
		require.ErrorContains(t, err, says, "%.64q", s)
		require.Less(t, len(err.Error()), 300, "a message of a megabyte does not belong into a log")
		require.Zero(t, m)
	}
}

func TestTheLongestMessageIsRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", MaxKeyBytes)
	m := Message{Op: Invalidate, Sender: "s", Keys: []string{long}}
	rest := MaxMessageBytes - len(m.Encode())
	for ; rest > 2*len(long); rest -= len("8192:,") + len(long) {
		m.Keys = append(m.Keys, long)
	}
	rest -= len("8000:,")
	m.Keys = append(m.Keys, long[:8000])
	rest -= 8000 + len("1234:,") // what is left needs a length of four digits
	m.Keys = append(m.Keys, long[:rest])
	b := m.Encode()
	require.Len(t, b, MaxMessageBytes)
	got, err := Parse(string(b))
	require.NoError(t, err)
	require.Equal(t, m, got)
	m.Keys[len(m.Keys)-1] += "k"
	_, err = Parse(string(m.Encode()))
	require.ErrorIs(t, err, ErrMessage)
}

// Every prefix, and every message with a byte changed, is refused or means something that is spelled so.
func TestOneSpelling(t *testing.T) {
	t.Parallel()
	for _, m := range []Message{
		{Op: Invalidate, Sender: "shell", Keys: []string{"42", "1:x,"}},
		{Op: All, Sender: "s"},
		{Op: Beat, Token: "token"},
		{Op: Wake, Channel: "c", Keys: []string{"42"}, Outcome: Filled},
	} {
		b := m.Encode()
		check := func(s string) {
			if got, err := Parse(s); err == nil {
				require.Equal(t, s, string(got.Encode()))
			}
		}
		for i := range b {
			_, err := Parse(string(b[:i]))
			if m.Op != Invalidate {
				require.Error(t, err, "%q", b[:i])
			}
			check(string(b[:i]))
			for c := range 256 {
				check(string(b[:i]) + string([]byte{byte(c)}) + string(b[i:]))
				changed := append([]byte(nil), b...)
				changed[i] = byte(c)
				check(string(changed))
			}
		}
	}
}

// requireBatches checks what must hold for any keys.
func requireBatches(t *testing.T, keys []string) [][]string {
	t.Helper()
	parts := Batches(keys)
	var all []string
	for _, part := range parts {
		require.NotEmpty(t, part)
		require.LessOrEqual(t, len(part), MaxKeys)
		all = append(all, part...)
		m := Message{Op: Invalidate, Sender: strings.Repeat("s", maxNameBytes), Keys: part}
		got, err := Parse(string(m.Encode()))
		require.NoError(t, err)
		require.Equal(t, part, got.Keys)
	}
	require.Equal(t, keys, all, "nothing lost, nothing twice, order kept")
	return parts
}

func TestBatches(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", MaxKeyBytes)
	for name, tc := range map[string]struct {
		keys  []string
		parts int
	}{
		"one":                 {[]string{"a"}, 1},
		"as many as fit":      {numbered(MaxKeys, 4), 1},
		"one more":            {numbered(MaxKeys+1, 4), 2},
		"many":                {numbered(5*MaxKeys, 5), 5},
		"one long":            {[]string{long}, 1},
		"long ones":           {slicesRepeat(long, 200), 4},
		"a long one, at last": {append(numbered(MaxKeys-1, 4), long), 1},
		"long after many":     {append(numbered(MaxKeys, 4), long), 2},
		"the same":            {slicesRepeat("a", 2500), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, requireBatches(t, tc.keys), tc.parts)
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestBatchesOfAnyKeys(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", MaxKeyBytes)
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		keys := make([]string, 1+r.IntN(3000))
		most := 1 + r.IntN(MaxKeyBytes)
		for i := range keys {
			keys[i] = long[:1+r.IntN(most)]
		}
		requireBatches(t, keys)
	}
}

func TestAppendingToABatchDoesNotChangeTheNext(t *testing.T) {
	t.Parallel()
	parts := Batches(numbered(MaxKeys+1, 4))
	_ = append(parts[0], "intruder")
	require.Equal(t, []string{"1000"}, parts[1])
}

func TestARoomTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	room := NewRoom()
	require.True(t, room.Take(make([]string, MaxKeys-1)))
	require.False(t, room.Take([]string{"a", "b"}), "one has room")
	require.True(t, room.Take([]string{"a"}))
	require.False(t, room.Take([]string{"b"}))
	require.True(t, room.Take(nil))
	longest := strings.Repeat("k", MaxKeyBytes)
	fits := func(room Room) (n int) {
		for room.Take([]string{longest}) {
			n++
		}
		return n
	}
	room = NewRoom()
	require.Positive(t, fits(room))
	require.Less(t, fits(room)*MaxKeyBytes, MaxMessageBytes)
}

func TestBatchesOfNoKeys(t *testing.T) {
	t.Parallel()
	require.Empty(t, Batches(nil))
	require.Empty(t, Batches([]string{}))
}

func FuzzParse(f *testing.F) {
	f.Add("tandem/1 inv 5:shell,2:42,2:43,")
	f.Add("tandem/1 all 5:shell,")
	f.Add("tandem/1 beat 2:xx,")
	f.Add("tandem/1 wake 1:c,2:42,6:filled,")
	f.Add("tandem/1 ask 16:0123456789abcdef,2:tt,")
	f.Add("tandem/1 ack 16:0123456789abcdef,2:tt,")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := Parse(s)
		if err != nil {
			require.ErrorIs(t, err, ErrMessage)
			require.Zero(t, m)
			return
		}
		require.Equal(t, s, string(m.Encode()), "one spelling")
		require.LessOrEqual(t, len(m.Keys), MaxKeys)
		for _, key := range m.Keys {
			require.NotEmpty(t, key)
			require.LessOrEqual(t, len(key), MaxKeyBytes)
		}
		for _, name := range []string{m.Sender, m.Token, m.Channel, m.Outcome} {
			require.LessOrEqual(t, len(name), maxNameBytes)
		}
		require.Equal(t, m.Op == Invalidate || m.Op == Tags || m.Op == Wake, len(m.Keys) > 0)
		require.True(t, (m.Op != Ask && m.Op != Ack) || (len(m.Sender) == idBytes && !strings.ContainsAny(m.Sender, ": *")))
	})
}
