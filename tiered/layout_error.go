package tiered

import (
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/pubsub"
)

// layoutError says what failed, and what to change where that is known.
func (c *Cache[V]) layoutError(err error) error {
	return fmt.Errorf("the number of partitions, in %s: %w", c.keys.Layout(), explained(err))
}

// explained is pubsub.Explain of errors that may be joined, one for each partition. They are as many lines in a log, most of them
// the same: one stands for all, if possible one of those that say what to change. What is wrapped deeper is not looked at.
func explained(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) < 2 {
		return pubsub.Explain(err)
	}
	all := joined.Unwrap()
	one := all[0]
	for _, err := range all {
		err = pubsub.Explain(err)
		if errors.Is(err, pubsub.ErrNoPermission) || errors.Is(err, pubsub.ErrUnsupportedServer) {
			one = err
			break
		}
	}
	return fmt.Errorf("%w (one of %d errors)", one, len(all))
}
