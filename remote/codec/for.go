package codec

import "reflect"

// For returns the codec for values of type V unless the user names one: Raw if V is of kind string or []byte, named types
// included, and Default otherwise.
func For[V any]() Codec {
	if isRaw(reflect.TypeFor[V]()) {
		return Raw
	}
	return Default
}
