package remote

import (
	_ "embed" // the scripts

	"github.com/tandemcache/tandem/internal/script"
)

// Each script's file says what its KEYS and ARGV are and what it answers.
var (
	//go:embed scripts/tags.lua
	tagsSource string
	//go:embed scripts/acquire.lua
	acquireSource string
	//go:embed scripts/renew.lua
	renewSource string
	//go:embed scripts/fill.lua
	fillSource string
	//go:embed scripts/release.lua
	releaseSource string
	//go:embed scripts/invalidate.lua
	invalidateSource string
	//go:embed scripts/invalidate_all.lua
	invalidateAllSource string
	//go:embed scripts/invalidate_tags.lua
	invalidateTagsSource string
	//go:embed scripts/set.lua
	setSource string
	//go:embed scripts/read.lua
	readSource string

	acquireScript        = script.New(tagsSource + acquireSource)
	renewScript          = script.New(renewSource)
	fillScript           = script.New(tagsSource + fillSource)
	releaseScript        = script.New(releaseSource)
	invalidateScript     = script.New(invalidateSource)
	invalidateAllScript  = script.New(invalidateAllSource)
	invalidateTagsScript = script.New(tagsSource + invalidateTagsSource)
	readScript           = script.New(tagsSource + readSource)
	setScript            = script.New(tagsSource + setSource)
)

// What publishes, for partitions of a cluster. The others are the same there.
var (
	shardedFill           = fillScript.Sharded()
	shardedRelease        = releaseScript.Sharded()
	shardedInvalidate     = invalidateScript.Sharded()
	shardedInvalidateAll  = invalidateAllScript.Sharded()
	shardedInvalidateTags = invalidateTagsScript.Sharded()
	shardedSet            = setScript.Sharded()
)

// variant returns sc as the store's keys want it.
func (s *Store) variant(sc script.Script) script.Script {
	if !s.keys.sharded {
		return sc
	}
	switch sc {
	case fillScript:
		return shardedFill
	case releaseScript:
		return shardedRelease
	case invalidateScript:
		return shardedInvalidate
	case invalidateAllScript:
		return shardedInvalidateAll
	case invalidateTagsScript:
		return shardedInvalidateTags
	case setScript:
		return shardedSet
	default:
		return sc
	}
}
