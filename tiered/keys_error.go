package tiered

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// KeysError is what GetMany, SetMany and Invalidate return for keys that have failed for the same reason. Several are joined;
// errors.As finds the first.
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

func (f *failures) addAll(keys []string, err error) {
	for _, key := range keys {
		f.add(key, err)
	}
}

// addOthers adds those of keys that are not there yet.
func (f *failures) addOthers(keys []string, err error) {
	if len(keys) == 0 {
		return
	}
	there := make(map[string]bool)
	for _, e := range f.all {
		for _, key := range e.Keys {
			there[key] = true
		}
	}
	for _, key := range keys {
		if !there[key] {
			f.add(key, err)
		}
	}
}

// join adds those of g.
func (f *failures) join(g failures) {
	for _, e := range g.all {
		f.addAll(e.Keys, e.Err)
	}
}

// pending returns them as one error that says that they are left to the background, nil if there is none.
func (f *failures) pending(what string) error {
	errs := make([]error, len(f.all))
	for i, e := range f.all {
		errs[i] = &KeysError{Keys: e.Keys, Err: pendingError(what, e.Err)}
	}
	return errors.Join(errs...)
}

// partial returns them as the error of a trip, nil if there is none.
func (f *failures) partial() error {
	if len(f.all) == 0 {
		return nil
	}
	return &partialError{*f}
}

// joined returns them as one error, nil if there is none.
func (f *failures) joined() error {
	errs := make([]error, len(f.all))
	for i, e := range f.all {
		errs[i] = e
	}
	return errors.Join(errs...)
}
