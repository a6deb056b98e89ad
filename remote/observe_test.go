package remote

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// watched is what a Store has told of one call.
type watched struct {
	op      Op
	entries int
	failed  bool
}

func watching(t *testing.T, addr string) (*Store, *[]watched) {
	t.Helper()
	keys, err := KeysFor("users")
	require.NoError(t, err)
	var told []watched
	observe := ObserveFunc(func(_ context.Context, op Op, entries int, took time.Duration, err error) {
		require.GreaterOrEqual(t, took, time.Duration(0))
		told = append(told, watched{op, entries, err != nil})
	})
	return New(newClient(t, addr), Options{Keys: keys, Schema: schemaA, DB: db, MaxBytes: maxBytes, Observe: observe}), &told
}

func TestEveryCallIsObserved(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]Op{
		"Get": OpGet, "Acquire": OpAcquire, "Renew": OpRenew, "Fill": OpFill, "Release": OpRelease, "Set": OpSet,
		"Invalidate": OpInvalidate, "InvalidateAll": OpInvalidateAll,
	} {
		s, told := watching(t, miniredis.RunT(t).Addr())
		require.NoError(t, calls[name](t.Context(), s))
		require.Equal(t, []watched{{op, 1, false}}, *told, name)
	}
}

func TestWhatIsObserved(t *testing.T) {
	t.Parallel()
	srv := miniredis.RunT(t)
	s, told := watching(t, srv.Addr())
	require.NoError(t, s.Invalidate(t.Context(), []string{"a", "b", "c"}, []byte("inv")))
	require.NoError(t, s.InvalidateTags(t.Context(), only, []string{"t"}, []byte("inv"))[0])
	srv.SetError("LOADING")
	_, err := s.Get(t.Context(), key)
	require.Error(t, err)
	require.Equal(t, []watched{{OpInvalidate, 3, false}, {OpInvalidateTags, 1, false}, {OpGet, 1, true}}, *told)
}

func TestBytesAreCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, newClient(t, miniredis.RunT(t).Addr()))
	f.setEpoch(formatEpoch(1))
	f.put(f.a, "12345", ttl)
	require.EqualValues(t, 5, f.a.BytesWritten())
	require.Zero(t, f.a.BytesRead())
	f.requireValue(f.a, "12345")
	require.EqualValues(t, 5, f.a.BytesRead())
	f.fill(f.a, NewToken(), "12345678", ttl, 1, false)
	require.EqualValues(t, 5, f.a.BytesWritten(), "what Redis refuses is not written")
}

func TestASharedLeaseKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, server.start(t))
			s := New(f.rdb, Options{Keys: f.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes, Shared: true})
			first, second := f.acquire(s, NewToken()), f.acquire(s, NewToken())
			require.Equal(t, []Outcome{Acquired, Acquired}, []Outcome{first.Outcome, second.Outcome})
			require.Equal(t, first.Token, second.Token, "the one of who came first")
			require.NoError(t, s.Invalidate(t.Context(), []string{key}, []byte("inv")))
			f.fill(s, second.Token, "old", ttl, second.Epoch, false)
		})
	}
}

func TestCheckTags(t *testing.T) {
	t.Parallel()
	long := string(make([]byte, MaxTagBytes))
	require.NoError(t, CheckTag(long))
	require.ErrorContains(t, CheckTag(long+"x"), "it has 256 bytes, at most 255 are allowed")
	require.ErrorContains(t, CheckTag(""), "it is empty")
	many := slices.Repeat([]string{"t"}, MaxTags+1)
	require.NoError(t, CheckTags(many[1:]))
	require.ErrorContains(t, CheckTags(many), "there are 33, at most 32 are allowed")
	require.ErrorIs(t, CheckTags([]string{"t", ""}), ErrTag)
}
