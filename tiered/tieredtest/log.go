package tieredtest

import (
	"io"
	"sync"
)

// output is a test's, which must not be written to after the test.
type output struct {
	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(b)
}

func (o *output) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = io.Discard
}
