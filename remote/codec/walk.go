package codec

import "reflect"

// walker looks through a value for what its type cannot tell: what the anys in it hold, times that the format cannot
// express, pointers that would come back nil, and nesting without end. It returns nil if all of it will be kept.
//
// depth is the number of arrays, maps and structs around the value.
type walker func(v reflect.Value, depth int) *TypeError

// walkerFor returns the walker for values of type t, which inspect has let pass; nil if there is nothing to look for.
// Most types of plain data need none, and then Marshal costs no more than the library does.
func walkerFor(t reflect.Type) walker {
	return (&walkerMaker{made: map[reflect.Type]*madeWalker{}}).make(t)
}

type walkerMaker struct {
	made map[reflect.Type]*madeWalker
}

type madeWalker struct {
	walk walker
	done bool
}

func (m *walkerMaker) make(t reflect.Type) walker {
	if w, ok := m.made[t]; ok {
		if w.done {
			return w.walk
		}
		// t contains itself. This walker is called only after w is done, and it is never nil: every type between here
		// and there then has one.
		return func(v reflect.Value, depth int) *TypeError { return w.walk(v, depth) }
	}
	w := &madeWalker{}
	m.made[t] = w
	w.walk = m.forKind(t)
	w.done = true
	return w.walk
}

func (m *walkerMaker) forKind(t reflect.Type) walker {
	switch {
	case t == timeType:
		return walkTime
	case t == bigIntType, methodsOf(t).marshal != 0:
		return nil
	}
	switch t.Kind() {
	case reflect.Interface:
		return walkAny
	case reflect.Pointer:
		return walkPointer(t, m.make(t.Elem()))
	case reflect.Slice, reflect.Array:
		return walkList(m.make(t.Elem()))
	case reflect.Map:
		return walkMap(m.make(t.Elem())) // keys hold nothing to look for: inspect sees to that
	case reflect.Struct:
		return m.walkStruct(t)
	}
	return nil
}

func tooDeep() *TypeError {
	return refuse("nested more than %d levels deep, or without end", maxDepth)
}

// walkPointer needs inner only if it is not nil, but always has to look at pointers to what can be null: CBOR has one
// null, and the outermost pointer takes it.
func walkPointer(t reflect.Type, inner walker) walker {
	nullable := isNullable(t.Elem())
	if !nullable && inner == nil {
		return nil
	}
	return func(v reflect.Value, depth int) *TypeError {
		switch {
		case v.IsNil():
			return nil
		case nullable && isNull(v.Elem()):
			return refuse("a pointer to a nil or zero %v would come back as a nil pointer", t.Elem())
		case inner == nil:
			return nil
		}
		return inner(v.Elem(), depth)
	}
}

// isNullable reports whether a value of type t may be encoded as null.
func isNullable(t reflect.Type) bool {
	if t == timeType || t == rawMessageType {
		return true
	}
	if methodsOf(t).marshal != 0 {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}

func isNull(v reflect.Value) bool {
	if v.Type() == timeType {
		return timeOf(v).IsZero()
	}
	return v.IsNil()
}

func walkList(elem walker) walker {
	if elem == nil {
		return nil
	}
	return func(v reflect.Value, depth int) *TypeError {
		if depth++; depth > maxDepth {
			return tooDeep()
		}
		for i := range v.Len() {
			if err := elem(v.Index(i), depth); err != nil {
				return err.within("[]")
			}
		}
		return nil
	}
}

func walkMap(elem walker) walker {
	if elem == nil {
		return nil
	}
	return func(v reflect.Value, depth int) *TypeError {
		if depth++; depth > maxDepth {
			return tooDeep()
		}
		for it := v.MapRange(); it.Next(); {
			if err := elem(it.Value(), depth); err != nil {
				return err.within("[]")
			}
		}
		return nil
	}
}

func (m *walkerMaker) walkStruct(t reflect.Type) walker {
	type step struct {
		name  string
		index int
		walk  walker
	}
	var steps []step
	for _, f := range cborFields(t) {
		if w := m.make(f.Type); w != nil {
			steps = append(steps, step{"." + f.Name, f.Index[0], w})
		}
	}
	if steps == nil {
		return nil
	}
	return func(v reflect.Value, depth int) *TypeError {
		if depth++; depth > maxDepth {
			return tooDeep()
		}
		for i := range steps {
			if err := steps[i].walk(v.Field(steps[i].index), depth); err != nil {
				return err.within(steps[i].name)
			}
		}
		return nil
	}
}
