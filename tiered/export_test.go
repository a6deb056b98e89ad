package tiered

import (
	"sync"

	"github.com/alicebob/miniredis/v2"
)

var exampleServer *miniredis.Miniredis

// ExampleRedis is the address of the examples' Redis: 127.0.0.1:6379 where a program runs, an embedded one here.
var ExampleRedis = sync.OnceValue(func() string {
	m, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	exampleServer = m
	return m.Addr()
})

func stopExampleRedis() {
	if exampleServer != nil {
		exampleServer.Close()
	}
}
