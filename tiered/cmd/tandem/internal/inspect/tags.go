package inspect

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
)

// Tag is a tag that a value was stored with.
type Tag struct {
	Name        string `json:"tag"`
	Invalidated bool   `json:"invalidated"` // since then
}

// judgeTags finds out which tags have been invalidated, by the rule of the package remote: a tag stands while its version is
// the one that lies beside the value.
func (s *Schema) judgeTags(ctx context.Context, rdb redis.UniversalClient, keys remote.Keys, partition int) error {
	if len(s.Tags) == 0 {
		return nil
	}
	names := make([]string, len(s.Tags))
	for i, tag := range s.Tags {
		names[i] = keys.Tag(partition, tag.Name)
	}
	current, err := rdb.MGet(ctx, names...).Result()
	if err != nil {
		return err
	}
	stored := strings.Split(s.versions, " ")
	for i, tag := range s.Tags {
		version, is := current[i].(string)
		tag.Invalidated = !is || len(stored) != len(s.Tags) || version != stored[i]
		if tag.Invalidated && s.State == StateLive {
			s.State = StateInvalidated
		}
	}
	return nil
}

func tagsText(tags []*Tag) string {
	if len(tags) == 0 {
		return "none"
	}
	texts := make([]string, len(tags))
	for i, tag := range tags {
		texts[i] = quoted(tag.Name)
		if tag.Invalidated {
			texts[i] += " (invalidated)"
		}
	}
	return strings.Join(texts, ", ")
}
