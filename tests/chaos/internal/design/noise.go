package design

import (
	"fmt"
	"strings"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// Names is where a design's things are in Redis, for those who break them.
type Names struct {
	Channel string
	Version string // of the cache as a whole; empty if there is none
	Entry   func(key int) string
}

// NamesOf returns the names of the design called name.
func NamesOf(name string) Names {
	if name == Control {
		return Names{Channel: controlChannel, Entry: func(key int) string { return controlPrefix + Key(key) }}
	}
	keys, err := remote.KeysFor(cacheName)
	if err != nil {
		panic(err)
	}
	return Names{
		Channel: keys.Channel(0, 0), Version: keys.Epoch(0),
		Entry: func(key int) string { return keys.Entry(Key(key)) },
	}
}

// Noise returns a message of about size bytes that the design understands, and that is about no key of the harness.
func Noise(name string, size int) string {
	if name == Control {
		return strings.Repeat("x", size)
	}
	m := pubsub.Message{Op: pubsub.Invalidate, Sender: "noise"}
	for n := 0; n < size && len(m.Keys) < pubsub.MaxKeys; n += 120 {
		m.Keys = append(m.Keys, fmt.Sprintf("noise-%0100d", n))
	}
	return string(m.Encode())
}
