package tieredtest_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

func ExampleNew() {
	t := newT() // the test's *testing.T
	defer t.end()

	var users tieredtest.Source[string]
	users.Set("42", "Ada")
	cache := tieredtest.New(t, tiered.Options[string]{Load: users.Load})

	for range 3 {
		name, err := cache.Get(t.Context(), "42")
		fmt.Println(name, err)
	}
	fmt.Println("loads:", users.Calls())
	// Output:
	// Ada <nil>
	// Ada <nil>
	// Ada <nil>
	// loads: 1
}

func ExampleFleet_Partition() {
	t := newT() // the test's *testing.T; in a bubble of testing/synctest the second below takes no time
	defer t.end()

	var users tieredtest.Source[string]
	users.Set("42", "Ada")
	fleet := tieredtest.NewFleet(t, 2, tiered.Options[string]{
		Load: users.Load, MaxStaleness: time.Second, RedisTimeout: 10 * time.Second,
	})
	a, b := fleet.Cache(0), fleet.Cache(1)
	name, _ := b.Get(t.Context(), "42")
	fmt.Println("before:", name)

	fleet.Partition(1)
	users.Set("42", "Grace")
	err := a.Invalidate(t.Context(), "42")
	fmt.Println("invalidated:", err)

	time.Sleep(time.Second) // MaxStaleness
	name, _ = b.Get(t.Context(), "42")
	fmt.Println("cut off:", name)
	fmt.Println("trusts L1:", b.Health().LocalTrusted)

	fleet.Heal(1)
	fleet.Settle()
	fmt.Println("healed:", b.Health().LocalTrusted)
	// Output:
	// before: Ada
	// invalidated: <nil>
	// cut off: Grace
	// trusts L1: false
	// healed: true
}

// exampleT is a testing.TB for examples, which have none.
type exampleT struct {
	testing.TB

	cleanups []func()
}

func newT() *exampleT { return new(exampleT) }

func (*exampleT) Context() context.Context     { return context.Background() }
func (*exampleT) Helper()                      {}
func (*exampleT) Output() io.Writer            { return io.Discard }
func (t *exampleT) Cleanup(f func())           { t.cleanups = append(t.cleanups, f) }
func (*exampleT) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (*exampleT) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func (t *exampleT) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		t.cleanups[last]()
		t.cleanups = t.cleanups[:last]
	}
}
