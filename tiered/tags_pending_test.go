package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestC6AnInvalidationOfATagThatRedisDidNotTake(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := taggedFleet(t, 2, r, s)
		for _, key := range []string{"red/1", "green/2"} {
			get(t, f[1], key) // Redis has them
		}
		r.intercept(func(cmd string, args []string) error {
			if isInvalidateTags(cmd, args, 1) {
				return errors.New("ERR not now")
			}
			return nil
		})
		s.write("red/1")
		require.ErrorIs(t, f[0].InvalidateTags(soon(t), "red"), ErrPending)
		require.Equal(t, r.partitions(), f[0].Health().PendingKeys)
		require.Equal(t, 1, get(t, f[0], "red/1"), "Redis is not believed")
		require.Equal(t, map[string]int{"red/1": 1, "green/2": 0}, getMany(t, f[0], "red/1", "green/2"))
		require.EqualValues(t, 3, s.loads.Load(), "of other tags it is")
		r.up()
		eventually(t, "the repetition", func() bool { return f[0].Health().PendingKeys == 0 })
		eventually(t, "the other hears of it", func() bool { return get(t, f[1], "red/1") == 1 })
	})
}

// slowReplies is a hook that keeps what Redis has answered back.
type slowReplies struct{ hold func() }

func (slowReplies) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s slowReplies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer s.hold()
		return next(ctx, cmd)
	}
}

func (s slowReplies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer s.hold()
		return next(ctx, cmds)
	}
}

// The invalidation of a tag is repeated and confirmed between an answer of Redis' and the look at its tags: see checkTags.
func TestC6ATagThatIsConfirmedWhileAnEntryIsRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		read func(ctx context.Context, c *Cache[int]) (int, error)
		want result
	}{
		"Get": {func(ctx context.Context, c *Cache[int]) (int, error) { return c.Get(ctx, "red/1") }, result{val: 1}},
		"GetMany": {func(ctx context.Context, c *Cache[int]) (int, error) {
			got, err := c.GetMany(ctx, []string{"red/1", "green/2"})
			return got["red/1"], err
		}, result{val: 1}},
		"Peek": {func(ctx context.Context, c *Cache[int]) (int, error) { return c.Peek(ctx, "red/1") }, result{err: ErrNotFound}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.RedisTimeout, o.LocalTTL = 10*time.Second, Off })[0]
				getMany(t, c, "red/1", "green/2") // Redis has them
				r.intercept(func(cmd string, args []string) error {
					if isInvalidateTags(cmd, args, 1) {
						return errors.New("ERR not now")
					}
					return nil
				})
				s.write("red/1")
				require.ErrorIs(t, c.InvalidateTags(soon(t), "red"), ErrPending) // 1

				answered, letGo := make(chan struct{}), make(chan struct{})
				confirmed := sync.OnceFunc(func() { close(letGo) })
				defer confirmed() // also if the test fails before
				hold := sync.OnceFunc(func() { close(answered); <-letGo })
				for _, data := range dataOf(c) {
					data.AddHook(slowReplies{hold})
				}
				ctx, done := soon(t), make(chan result, 1)
				go func() {
					v, err := tt.read(ctx, c)
					done <- result{v, err}
				}()
				wait(t, "Redis' answer", answered) // 2
				r.up()
				eventually(t, "the repetition", func() bool { return c.Health().PendingKeys == 0 }) // 3
				confirmed()
				require.Equal(t, tt.want, wait(t, "the read", done), "4")
			})
		})
	}
}

func TestC6TooManyTagsArePendingAsEverything(t *testing.T) {
	t.Parallel()
	p := newPending(1, make(chan struct{}, 1))
	p.add([]string{"k"}, time.Now())
	require.False(t, p.hasTag([]string{"k"}))
	p.addTags([]string{"a", "b"}, time.Now())
	require.True(t, p.hasTag([]string{"c", "b"}))
	require.False(t, p.has("a"))
	keys, all := p.size()
	require.Equal(t, 3, keys)
	require.False(t, all)
	b, _, _ := p.next(time.Now(), 10)
	require.Equal(t, []string{"k"}, b.keys)
	require.ElementsMatch(t, []string{"a", "b"}, b.tags)
	p.addTags([]string{"a"}, time.Now())
	p.confirm(b)
	require.True(t, p.hasTag([]string{"a"}), "added again meanwhile")
	require.False(t, p.hasTag([]string{"b"}))
	require.Equal(t, 1, p.bytes)
	p.addTags([]string{"later"}, time.Now().Add(time.Hour))
	p.confirm(batch{tags: []string{"a"}, seq: p.seq})
	b, left, some := p.next(time.Now(), 10)
	require.Empty(t, b.tags)
	require.Greater(t, left, 59*time.Minute)
	require.True(t, some)
	for i := range maxPendingKeys {
		p.addTags([]string{fmt.Sprint(i)}, time.Now())
	}
	_, all = p.size()
	require.True(t, all)
	require.True(t, p.hasTag([]string{"any"}))
	require.True(t, p.has("any"))
	require.False(t, p.hasTag(nil))
	require.Empty(t, p.tags)
}

// A server that has taken over may lack what the one before had confirmed.
func TestTagsAreRepeatedOnAServerThatHasTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := taggedFleet(t, 1, r, s, func(o *Options[int]) { o.MaxStaleness, o.TTL = time.Hour, time.Hour })[0]
		letBeats := holdBeats(r) // one would take them out of the journal
		defer letBeats()
		require.NoError(t, c.InvalidateTags(soon(t), "red", "green"))
		require.NoError(t, c.Invalidate(soon(t), "red/1"))
		own := uint64(2*r.partitions() + 1)
		eventually(t, "its own", func() bool { return c.Stats().Received == own })
		takeOver(c, "red/1", false)
		require.EqualValues(t, 3, c.Stats().Replayed)
		letBeats()
		eventually(t, "they are repeated", func() bool { return c.Stats().Received == own+3 })
		eventually(t, "and done", func() bool { return c.Health().PendingKeys == 0 })

		moves := journalOf(c, "red/1").begin()
		takeOver(c, "red/1", false)
		require.False(t, journalOf(c, "red/1").addTags(moves, []string{"red"}), "confirmed by whom?")
	})
}

func TestJournalOfTags(t *testing.T) {
	t.Parallel()
	j := newJournal(1)
	require.True(t, j.addTags(0, []string{"red", "green"}))
	require.True(t, j.add(0, []string{"k"}))
	require.Equal(t, 3, j.keys)
	require.Equal(t, 9, j.bytes)
	keys, tags, all := j.take()
	require.Equal(t, []string{"k"}, keys)
	require.Equal(t, []string{"red", "green"}, tags)
	require.False(t, all)
	for i := range maxPendingKeys + 1 {
		require.True(t, j.addTags(1, []string{fmt.Sprint(i)}))
	}
	_, tags, all = j.take()
	require.True(t, all)
	require.Empty(t, tags)
}
