package tiered

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// KeysError is what GetMany and SetMany return for keys that have failed for the same reason. Several are joined; errors.As
// finds the first.
type KeysError struct {
	// Keys are those that have failed, each once.
	Keys []string
	// Err is why.
	Err error
}

// Error names the first keys, and how many more there are.
func (e *KeysError) Error() string {
	const named = 3
	var b strings.Builder
	b.WriteString("tiered: ")
	for i, key := range e.Keys {
		if i == named {
			fmt.Fprintf(&b, " and %d more", len(e.Keys)-named)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.64q", key)
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *KeysError) Unwrap() error { return e.Err }

// failures are a batch's errors, by reason. The zero value has none.
type failures struct {
	all      []*KeysError
	byReason map[error]*KeysError
}

func (f *failures) add(key string, err error) {
	// A user's error may be of a type that cannot be compared, and is then one by itself.
	same := reflect.ValueOf(err).Comparable()
	if same {
		if e := f.byReason[err]; e != nil {
			e.Keys = append(e.Keys, key)
			return
		}
	}
	e := &KeysError{Keys: []string{key}, Err: err}
	f.all = append(f.all, e)
	if same {
		if f.byReason == nil {
			f.byReason = make(map[error]*KeysError)
		}
		f.byReason[err] = e
	}
}

// joined returns them as one error, nil if there is none.
func (f *failures) joined() error {
	errs := make([]error, len(f.all))
	for i, e := range f.all {
		errs[i] = e
	}
	return errors.Join(errs...)
}
