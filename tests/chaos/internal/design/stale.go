package design

import (
	"context"
	"math/rand/v2"
)

// stale is an instance with a rare defect, to show that the harness sees one.
type stale struct{ Instance }

// Get returns the version before the right one once in a thousand times.
func (s *stale) Get(ctx context.Context, key int) (Value, error) {
	v, err := s.Instance.Get(ctx, key)
	if err == nil && v.Version > 0 && rand.N(1000) == 0 {
		v.Version--
	}
	return v, err
}
