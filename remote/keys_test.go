package remote

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
)

func TestKeysOfACache(t *testing.T) {
	t.Parallel()
	keys, err := KeysFor("users")
	require.NoError(t, err)
	require.Equal(t, "tandem:{users}:k:42", keys.Entry("42"))
	require.Equal(t, "tandem:{users}:epoch", keys.Epoch(0))
	require.Equal(t, "tandem:{users}:bus:0", keys.Channel(0, 0))
	require.Equal(t, "tandem:{users}:bus:15", keys.Channel(0, 15))
	require.Equal(t, "tandem:users:layout", keys.Layout())
	require.Equal(t, 1, keys.Partitions())
	for i := range 100 {
		require.Zero(t, keys.Partition(fmt.Sprint("k", i)))
	}
}

func TestKeysOfAPartition(t *testing.T) {
	t.Parallel()
	keys := onlyPartition("users", "1f")
	require.Equal(t, "tandem:users:{1f}:k:42", keys.Entry("42"))
	require.Equal(t, "tandem:users:{1f}:k:", keys.Entries(0))
	require.Equal(t, "tandem:users:{1f}:epoch", keys.Epoch(0))
	require.Equal(t, "tandem:users:{1f}:bus:0", keys.Channel(0, 0))
	require.Equal(t, "tandem:users:{1f}:t:red", keys.Tag(0, "red"))
	require.Equal(t, "tandem:users:{1f}:instances", keys.Instances(0))
}

func TestKeysOfACluster(t *testing.T) {
	t.Parallel()
	for _, n := range []int{partition.Min, 64, partition.Max} {
		table, err := partition.New(n)
		require.NoError(t, err)
		keys, err := ClusterKeys("users", table)
		require.NoError(t, err)
		require.Equal(t, n, keys.Partitions())
		begins := map[string]bool{}
		for p := range n {
			begin := "tandem:users:{" + table.Tag(p) + "}:"
			begins[begin] = true
			require.Equal(t, begin+"k:", keys.Entries(p))
			require.Equal(t, begin+"epoch", keys.Epoch(p))
			require.Equal(t, begin+"instances", keys.Instances(p))
			require.Equal(t, begin+"t:red", keys.Tag(p, "red"))
			require.Equal(t, begin+"bus:0", keys.Channel(p, 0))
			require.Equal(t, begin+"bus:3", keys.Channel(p, 3))
		}
		require.Len(t, begins, n)
		for i := range 1000 {
			key := fmt.Sprint("k", i)
			p := keys.Partition(key)
			require.Equal(t, table.Of(key), p)
			require.Equal(t, keys.Entries(p)+key, keys.Entry(key))
			name, parsed, err := ParseEntry(keys.Entry(key))
			require.NoError(t, err)
			require.Equal(t, []string{"users", key}, []string{name, parsed})
		}
		require.Equal(t, "tandem:users:layout", keys.Layout(), "the same whatever the division")
		require.Equal(t, "tandem:users:{*}:bus:*", keys.Channels(), "the same whatever the division")
		other := keys.inDB(3)
		require.Equal(t, keys.Channel(n-1, 3), other.parts[n-1].channel)
		require.Equal(t, keys.Channel(n-1, 0), keys.parts[n-1].channel, "the original is as it was")
	}
	_, err := ClusterKeys("us{ers", partition.Table{})
	require.ErrorIs(t, err, ErrName)
	_, err = ClusterKeys("users", partition.Table{})
	require.ErrorIs(t, err, partition.ErrCount)
}

// Everything that one script touches must be in one slot of a cluster.
func TestEverythingOfACacheSharesTheHashTag(t *testing.T) {
	t.Parallel()
	// As in the specification of Redis Cluster: what is between the first { and the first } after it, if that is anything.
	tag := func(key string) string {
		_, rest, _ := strings.Cut(key, "{")
		tag, _, _ := strings.Cut(rest, "}")
		return tag
	}
	for _, name := range []string{"users", "a.b_c-D", strings.Repeat("x", MaxNameBytes)} {
		keys, err := KeysFor(name)
		require.NoError(t, err)
		for _, k := range []string{keys.Entry("42"), keys.Entry("{x}"), keys.Entry("}{"), keys.Epoch(0), keys.Channel(0, 3)} {
			require.Equal(t, name, tag(k), k)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "users", "Users.v2_x-y", "0", ".", "-", "_", strings.Repeat("x", MaxNameBytes)} {
		require.NoError(t, CheckName(name), name)
		_, err := KeysFor(name)
		require.NoError(t, err)
	}
	for _, name := range []string{
		"", strings.Repeat("x", MaxNameBytes+1), "a b", "a:b", "a{b", "a}b", "{a}", "a\n", "\na", "a\x00", "ä", "a/b", "*", "a\nb",
		"}:k:", "a}:k:b",
	} {
		require.ErrorIs(t, CheckName(name), ErrName, "%q", name)
		keys, err := KeysFor(name)
		require.ErrorIs(t, err, ErrName)
		require.Zero(t, keys)
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"a", " ", "\x00", "\xff\xfe", "}:k:", "\n", strings.Repeat("x", MaxKeyBytes)} {
		require.NoError(t, CheckKey(key))
	}
	require.ErrorIs(t, CheckKey(""), ErrKey)
	err := CheckKey(strings.Repeat("x", MaxKeyBytes+1))
	require.ErrorIs(t, err, ErrKey)
	require.ErrorContains(t, err, fmt.Sprint(MaxKeyBytes+1))
	require.Less(t, len(err.Error()), 200, "the key itself is not in it")
}

func TestParseEntryIsTheInverseOfEntry(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"users", "k", strings.Repeat("x", MaxNameBytes)} {
		keys, err := KeysFor(name)
		require.NoError(t, err)
		for _, key := range []string{
			"42", "}:k:", "}:k:}:k:", "tandem:{users}:k:42", "epoch", ":", "{", "\x00", everyByte(), strings.Repeat("x", MaxKeyBytes),
		} {
			gotName, gotKey, err := ParseEntry(keys.Entry(key))
			require.NoError(t, err)
			require.Equal(t, name, gotName)
			require.Equal(t, key, gotKey)
		}
	}
}

func TestParseEntryOfAPartition(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"users", "k", "bus", strings.Repeat("x", MaxNameBytes)} {
		keys := onlyPartition(name, "1f")
		for _, key := range []string{"42", "}:k:", "tandem:{users}:k:42", "tandem:users:{1f}:k:42", ":{", everyByte(), strings.Repeat("x", MaxKeyBytes)} {
			gotName, gotKey, err := ParseEntry(keys.Entry(key))
			require.NoError(t, err)
			require.Equal(t, name, gotName)
			require.Equal(t, key, gotKey)
		}
		for _, other := range []string{keys.Epoch(0), keys.Channel(0, 0), keys.Entry(""), keys.Tag(0, "x"), "tandem:users:{}:k:42", "tandem:users:{A}:k:42", "tandem:users:{1}f}:k:42", "tandem:users:{123456789}:k:42"} {
			_, _, err := ParseEntry(other)
			require.ErrorIs(t, err, ErrKey, other)
		}
	}
	_, _, err := ParseEntry("tandem:us ers:{1f}:k:42")
	require.ErrorIs(t, err, ErrName)
}

func TestParseEntryRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	keys, err := KeysFor("users")
	require.NoError(t, err)
	for s, want := range map[string]error{
		"":                       ErrKey,
		"42":                     ErrKey,
		"tandem":                 ErrKey,
		"tandem:{users}":         ErrKey,
		"Tandem:{users}:k:42":    ErrKey,
		" tandem:{users}:k:42":   ErrKey,
		"tandem:users:k:42":      ErrKey,
		"tandem:{users}:k":       ErrKey,
		"tandem:{users}:K:42":    ErrKey,
		"tandem:{users}:k:":      ErrKey,
		"tandem:{}:k:42":         ErrName,
		"tandem:{us ers}:k:42":   ErrName,
		"tandem:{{users}:k:42":   ErrName,
		"tandem:{users}:x}:k:42": ErrName,
		keys.Epoch(0):            ErrKey,
		keys.Channel(0, 0):       ErrKey,
		keys.Entry(""):           ErrKey,
		"tandem:{a\nb}:k:42":     ErrName,
		"tandem:{users\n}:k:42":  ErrName,
		"tandem:{" + strings.Repeat("x", MaxNameBytes+1) + "}:k:42":  ErrName,
		"tandem:{users}:k:" + strings.Repeat("x", MaxKeyBytes+1):     ErrKey,
		strings.Repeat("tandem:{", 1000):                             ErrKey,
		"tandem:{" + strings.Repeat("x", 1<<20) + "}:k:42":           ErrName,
		"tandem:{users}:bus:0}:k:42":                                 ErrName,
		"tandem:inst:0011223344556677:0":                             ErrKey,
		"tandem:probe:0011223344556677":                              ErrKey,
		"tandem:{users}:k:" + strings.Repeat("\x00", 10*MaxKeyBytes): ErrKey,
	} {
		name, key, err := ParseEntry(s)
		require.ErrorIs(t, err, want, "%.64q", s)
		require.Empty(t, name)
		require.Empty(t, key)
	}
}

// No two things of any caches have one name in Redis.
func TestNamesInRedisDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	add := func(redisKey, what string) {
		require.NotContains(t, seen, redisKey, what)
		seen[redisKey] = what
	}
	for _, name := range []string{"a", "b", "k", "epoch", "bus", "a.k", "a-k"} {
		keys, err := KeysFor(name)
		require.NoError(t, err)
		add(keys.Epoch(0), name+" epoch")
		add(keys.Layout(), name+" layout")
		add(keys.Instances(0), name+" instances")
		table, err := partition.New(partition.Min)
		require.NoError(t, err)
		sharded, err := ClusterKeys(name, table)
		require.NoError(t, err)
		for p := range sharded.Partitions() {
			add(sharded.Epoch(p), fmt.Sprint(name, " epoch of ", p))
			add(sharded.Instances(p), fmt.Sprint(name, " instances of ", p))
			add(sharded.Channel(p, 0), fmt.Sprint(name, " channel of ", p))
		}
		for i := range 3 {
			add(keys.Channel(0, i), fmt.Sprint(name, " channel ", i))
		}
		for _, key := range []string{"a", "b", "epoch", "bus:0", ":epoch", "}:epoch", "}:k:a", "k:a"} {
			add(keys.Entry(key), name+" "+key)
			add(sharded.Entry(key), name+" "+key+" of a partition")
		}
	}
}

func TestSchemaField(t *testing.T) {
	t.Parallel()
	require.Equal(t, "cbor.3f2a90c1d4e5b687", Schema{Codec: "cbor", Type: 0x3f2a90c1d4e5b687}.Field())
	require.Equal(t, "json.0000000000000001", Schema{Codec: "json", Type: 1}.Field())
	// The fields of one schema are none of another's: a type always has 16 digits.
	seen := map[string]bool{}
	for _, codec := range []string{"a", "b", "l", "w", "a-l"} {
		for _, typ := range []uint64{0, 1, 0x10, 1 << 63} {
			f := Schema{Codec: codec, Type: typ}.Field()
			for _, name := range []string{f, f + leaseSuffix, f + waiterSuffix} {
				require.False(t, seen[name], name)
				seen[name] = true
			}
		}
	}
}

func TestEpochTextAndBack(t *testing.T) {
	t.Parallel()
	for _, e := range []uint64{0, 1, 255, 1 << 63, 1<<64 - 1, NewEpoch()} {
		s := EpochText(e)
		require.Len(t, s, 16)
		got, err := ParseEpoch(s)
		require.NoError(t, err)
		require.Equal(t, e, got)
	}
	require.Equal(t, "00000000000000ff", EpochText(255))
}

func TestParseEpochRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "0", "000000000000000", "00000000000000000", "000000000000000g", "0x00000000000000", "+000000000000001", "-000000000000001",
		" 00000000000000f", "00000000000000f\n", "0000_0000_0000_0", strings.Repeat("0", 1<<20), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		_, err := ParseEpoch(s)
		require.Error(t, err, "%.32q", s)
		require.Less(t, len(err.Error()), 200)
	}
}

func TestParseEpochHasOneSpelling(t *testing.T) {
	t.Parallel()
	_, err := ParseEpoch("00000000000000FF")
	require.Error(t, err)
}

func TestEpochsAndTokensDiffer(t *testing.T) {
	t.Parallel()
	epochs, tokens := map[uint64]bool{}, map[Token]bool{}
	for range 10_000 {
		epochs[NewEpoch()] = true
		token := NewToken()
		require.Regexp(t, "^[0-9a-f]{32}$", string(token))
		tokens[token] = true
	}
	require.Len(t, epochs, 10_000)
	require.Len(t, tokens, 10_000)
}
