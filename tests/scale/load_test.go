//go:build linux

package scale

import "context"

func load64(context.Context, string) ([]byte, error) { return make([]byte, 64), nil }
