// Package workload is what every competitor is given: the same values under the same keys in the same order.
package workload

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// User is the value that is cached: 32 bytes of name, 4 tags, 512 bytes of body.
type User struct {
	ID   int64    `json:"id"`
	Name string   `json:"name"`
	Tags []string `json:"tags"`
	Body []byte   `json:"body"`
}

// UserBytes is about what a User keeps alive on the heap, for caches that are told a cost.
const UserBytes = 800

// Skew is the exponent of the Zipf distribution that keys are drawn from.
const Skew = 1.01

// NewUser returns the user with an ID, of which all else follows.
func NewUser(id int64) User {
	body := make([]byte, 512)
	fill := rand.NewPCG(uint64(id), 1)
	for i := range body {
		body[i] = byte(fill.Uint64())
	}
	return User{
		ID: id, Name: fmt.Sprintf("%032d", id), Body: body,
		Tags: []string{"staff", "europe", "beta", "newsletter"},
	}
}

// Key returns the key of the user with an ID.
func Key(id int64) string { return "user:" + strconv.FormatInt(id, 10) }

// ID is the inverse of Key, and of a key with something before "user:".
func ID(key string) (int64, error) {
	_, digits, ok := strings.Cut(key, "user:")
	if !ok {
		return 0, fmt.Errorf("key %q is not a user's", key)
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("key %q: %w", key, err)
	}
	return id, nil
}

// Keys returns the keys of the first n users.
func Keys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = Key(int64(i))
	}
	return keys
}

// Zipf returns a sequence of length draws from keys, Zipf-distributed and the same in every run.
func Zipf(keys []string, length int) []string {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), Skew, 1, uint64(len(keys)-1))
	order := make([]string, length)
	for i := range order {
		order[i] = keys[zipf.Uint64()]
	}
	return order
}

// Share returns the keys that one of several workers has to itself, so that no two ever ask for one key at once.
func Share(keys []string, worker, workers int) []string {
	var mine []string
	for i := worker; i < len(keys); i += workers {
		mine = append(mine, keys[i])
	}
	return mine
}
