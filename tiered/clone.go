package tiered

import "runtime/debug"

// own returns a result as its caller may have it.
func (c *Cache[V]) own(v V, err error) (V, error) {
	if c.opts.Clone == nil || err != nil {
		return v, err
	}
	return c.clone(v)
}

func (c *Cache[V]) clone(v V) (own V, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return c.opts.Clone(v), nil
}
