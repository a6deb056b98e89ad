package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// compared are the modules whose versions belong to the figures.
var compared = []string{
	"github.com/Yiling-J/theine-go", "github.com/dgraph-io/ristretto/v2", "github.com/go-redis/cache/v9",
	"github.com/maypok86/otter/v2", "github.com/redis/go-redis/v9", "github.com/redis/rueidis", "github.com/samber/hot",
	"github.com/viccon/sturdyc",
}

// header says what the figures below it were measured with.
func header(args []string, s settings, redisVersion string) string {
	return fmt.Sprintf("`%s`, %s, %d CPUs, %s/%s, %s, Redis %s\n\n%s\n\n"+
		"Medians of %d rounds of %v a turn; the ratio is the median of the rounds' ratios. Within a round all competitors take turns, and each round begins with another one.\n",
		strings.Join(append([]string{"go run ."}, args...), " "), time.Now().Format(time.DateOnly), runtime.NumCPU(),
		runtime.GOOS, runtime.GOARCH, runtime.Version(), redisVersion, strings.Join(versions(), ", "), s.Rounds, s.Time)
}

func versions() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var found []string
	for _, module := range info.Deps {
		if slices.Contains(compared, module.Path) {
			found = append(found, strings.TrimPrefix(module.Path, "github.com/")+" "+module.Version)
		}
	}
	return found
}
