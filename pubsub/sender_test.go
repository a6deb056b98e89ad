package pubsub

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSender(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", MaxCarried)
	for name, tc := range map[string]struct {
		sender Sender
		text   string
	}{
		"alone":       {Sender{ID: "shell"}, "shell"},
		"with a time": {Sender{ID: "a", At: 1732212345678}, "a;t=1732212345678"},
		"with a text": {Sender{ID: "a", Carried: traceparent}, "a;c=" + traceparent},
		"with both":   {Sender{ID: "a", At: 1, Carried: longest}, "a;t=1;c=" + longest},
		"no id":       {Sender{At: 1}, ";t=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.text, tc.sender.String())
			require.Equal(t, tc.sender, ParseSender(tc.text))
		})
	}
}

func TestSenderOfOthers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Sender{
		"":                     {},
		"a;":                   {ID: "a"},
		"a;t=;c=":              {ID: "a"},
		"a;t=-1":               {ID: "a"},
		"a;t=+1":               {ID: "a"},
		"a;t=1234567890123456": {ID: "a"},
		"a;t=x;t=2":            {ID: "a", At: 2},
		"a;t=1;t=2":            {ID: "a", At: 1},
		"a;c=two words":        {ID: "a"},
		"a;c=é":                {ID: "a"},
		"a;c=\x00":             {ID: "a"},
		"a;c=" + strings.Repeat("x", MaxCarried+1): {ID: "a"},
		"a;later=1;c=x": {ID: "a", Carried: "x"},
	} {
		require.Equal(t, want, ParseSender(text), "%q", text)
	}
}

func TestASenderCarriesOnlyWhatCanBeRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", "a;b", "a\n", strings.Repeat("x", MaxCarried+1)} {
		require.Equal(t, "a", Sender{ID: "a", Carried: text}.String())
	}
}

func TestTheLongestSenderFitsIntoAMessage(t *testing.T) {
	t.Parallel()
	s := Sender{ID: newID(8), At: 999_999_999_999_999, Carried: strings.Repeat("x", MaxCarried)}
	m := Message{Op: All, Sender: s.String()}
	got, err := Parse(string(m.Encode()))
	require.NoError(t, err)
	require.Equal(t, s, ParseSender(got.Sender))
}

func FuzzParseSender(f *testing.F) {
	for _, text := range []string{"shell", "a;t=1;c=" + traceparent, ";;;", "a;t=99999999999999999999", "a;c=\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := ParseSender(text)
		require.NotContains(t, s.ID, ";")
		require.GreaterOrEqual(t, s.At, int64(0))
		require.True(t, s.Carried == "" || Carriable(s.Carried))
		require.Equal(t, s, ParseSender(s.String()))
	})
}
