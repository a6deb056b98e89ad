// Package leak finds the goroutines that the tests of a package leave behind.
package leak

import (
	"time"

	"go.uber.org/goleak"
)

// patience is above the second in which go-redis looks whether a client is closed that has failed to dial several times:
// goleak itself waits for less than half of it.
const patience = 3 * time.Second

// Main is for TestMain: it runs the tests, and fails if they pass and goroutines are left that do not end by themselves in a
// moment.
func Main(m goleak.TestingM) { goleak.VerifyTestMain(patient{m}) }

type patient struct{ goleak.TestingM }

// Run waits for what is about to end, and leaves it to goleak to say what has not.
func (p patient) Run() int {
	code := p.TestingM.Run()
	for end := time.Now().Add(patience); code == 0 && time.Now().Before(end); {
		if goleak.Find() == nil {
			break
		}
	}
	return code
}
