//go:build !unix

package redisserver

import "errors"

// There is no SIGSTOP here, and no redis-server either.

func (*process) pause() error  { return errors.ErrUnsupported }
func (*process) resume() error { return errors.ErrUnsupported }
