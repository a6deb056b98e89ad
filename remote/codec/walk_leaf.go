package codec

import (
	"math"
	"math/big"
	"reflect"
	"time"
)

// walkTime refuses the times that RFC 3339 has no text for. Such times are not exotic: parsing "15:04" in a location gives
// a time in the year 0, where most locations are some odd seconds off UTC.
func walkTime(v reflect.Value, _ int) *TypeError { return checkTime(timeOf(v)) }

func checkTime(t time.Time) *TypeError {
	if t.IsZero() {
		return nil // null
	}
	if y := t.Year(); y < 0 || y > 9999 {
		return refuse("a time in the year %d cannot be kept", y)
	}
	if _, off := t.Zone(); off%60 != 0 || off <= -24*60*60 || off >= 24*60*60 {
		return refuse("a time that is %d s off UTC cannot be kept: offsets have whole minutes, and less than a day", off)
	}
	return nil
}

// timeOf returns the time in v without the copy on the heap that Interface makes of what is addressable.
func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

func walkAny(v reflect.Value, depth int) *TypeError {
	if v.IsNil() {
		return nil
	}
	return checkAny(v.Interface(), depth)
}

// checkAny refuses what an any would not give back. An entry is read by processes that only have its bytes: from them, an
// any gets the types listed in the package comment and no others. A struct would return as a map, a uuid as bytes, and the
// type assertion that works on a value from the source would fail on the same value from Redis.
func checkAny(x any, depth int) *TypeError {
	switch x := x.(type) {
	case nil, bool, string, int, int8, int16, int32, int64, uint8, uint16, uint32, float32, float64:
		return nil
	case uint:
		return checkUint(uint64(x))
	case uint64:
		return checkUint(x)
	case time.Time:
		if x.IsZero() {
			return refuse("a zero time in an any would come back nil")
		}
		return checkTime(x)
	case []byte:
		return checkNil(x, x == nil)
	case *big.Int:
		return checkNil(x, x == nil)
	case []any:
		return checkAnys(x, depth)
	case map[string]any:
		return checkAnyMap(x, depth)
	}
	return refuse("an any does not keep a %T: use a field of that type", x)
}

func checkUint(u uint64) *TypeError {
	if u > math.MaxInt64 {
		return refuse("an any keeps integers as int64, which cannot hold %d", u)
	}
	return nil
}

func checkNil(x any, isNil bool) *TypeError {
	if isNil {
		return refuse("a nil %T in an any would come back as a bare nil", x)
	}
	return nil
}

func checkAnys(list []any, depth int) *TypeError {
	if depth++; depth > maxDepth {
		return tooDeep()
	}
	for _, x := range list {
		if err := checkAny(x, depth); err != nil {
			return err.within("[]")
		}
	}
	return checkNil(list, list == nil)
}

func checkAnyMap(m map[string]any, depth int) *TypeError {
	if depth++; depth > maxDepth {
		return tooDeep()
	}
	for _, x := range m {
		if err := checkAny(x, depth); err != nil {
			return err.within("[]")
		}
	}
	return checkNil(m, m == nil)
}
