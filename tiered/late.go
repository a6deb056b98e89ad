package tiered

import "errors"

// errLate is why a change that Redis has confirmed is pending all the same.
var errLate = errors.New("an earlier Set of the key was not confirmed, and may still arrive")

// late returns those of keys of which a change cannot be confirmed yet, whatever Redis says. It is asked before Redis is.
//
//  1. a Set of version 6 is sent, and its caller's context ends. It is pending: to be invalidated when it is too late for it
//     to store anything;
//  2. a Set of version 7 by the same caller, or its Invalidate, takes another connection, and Redis confirms it;
//  3. that of 1 arrives, in time, and stores version 6;
//  4. this instance loses Redis, and the invalidation of 1 waits. The others read version 6 for as long as that lasts.
//
// Were 2 confirmed, that would break C3. So it is pending as 1 is, and both are done with the same invalidation. A new epoch,
// as of InvalidateAll, keeps 1 from storing anything.
func (c *Cache[V]) late(keys []string) (late []string) {
	for _, key := range keys {
		if c.part(key).pending.late(key) {
			late = append(late, key)
		}
	}
	return late
}

// lateParts returns those in which tags cannot be invalidated yet: an earlier Set would be stored under the versions that its tags
// have when it arrives. Which tags those are is not remembered.
func (c *Cache[V]) lateParts() (late []*part) {
	if c.opts.Tags == nil {
		return nil // its values have none
	}
	for _, p := range c.parts {
		if p.pending.anyLate() {
			late = append(late, p)
		}
	}
	return late
}
