//go:build !unix

package faults

import "testing"

func listenWithoutBacklog(t *testing.T) string {
	t.Helper()
	t.Skip("needs a listener without a backlog")
	return ""
}
