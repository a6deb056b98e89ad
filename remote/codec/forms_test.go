package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// The types below marshal themselves in every combination that matters. Each form has its own prefix, so that bytes
// written in one form and read in another are an error, and the content is unexported, so that only the methods keep it.

type secret struct{ s string }

func (s secret) put(prefix string) ([]byte, error) { return []byte(prefix + s.s), nil }

func (s *secret) take(b []byte, prefix string) error {
	rest, ok := bytes.CutPrefix(b, []byte(prefix))
	if !ok {
		return fmt.Errorf("%q does not begin with %q", b, prefix)
	}
	s.s = string(rest)
	return nil
}

func (s secret) putJSON() ([]byte, error) { return json.Marshal("json:" + s.s) }

func (s *secret) takeJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	return s.take([]byte(text), "json:")
}

type binaryOnly struct{ secret }

func (v binaryOnly) MarshalBinary() ([]byte, error)     { return v.put("binary:") }
func (v *binaryOnly) UnmarshalBinary(data []byte) error { return v.take(data, "binary:") }

type textOnly struct{ secret }

func (v textOnly) MarshalText() ([]byte, error)     { return v.put("text:") }
func (v *textOnly) UnmarshalText(text []byte) error { return v.take(text, "text:") }

type jsonOnly struct{ secret }

func (v jsonOnly) MarshalJSON() ([]byte, error)  { return v.putJSON() }
func (v *jsonOnly) UnmarshalJSON(b []byte) error { return v.takeJSON(b) }

type binaryText struct{ secret }

func (v binaryText) MarshalBinary() ([]byte, error)     { return v.put("binary:") }
func (v *binaryText) UnmarshalBinary(data []byte) error { return v.take(data, "binary:") }
func (v binaryText) MarshalText() ([]byte, error)       { return v.put("text:") }
func (v *binaryText) UnmarshalText(text []byte) error   { return v.take(text, "text:") }

type binaryJSON struct{ secret }

func (v binaryJSON) MarshalBinary() ([]byte, error)     { return v.put("binary:") }
func (v *binaryJSON) UnmarshalBinary(data []byte) error { return v.take(data, "binary:") }
func (v binaryJSON) MarshalJSON() ([]byte, error)       { return v.putJSON() }
func (v *binaryJSON) UnmarshalJSON(b []byte) error      { return v.takeJSON(b) }

type textJSON struct{ secret }

func (v textJSON) MarshalText() ([]byte, error)     { return v.put("text:") }
func (v *textJSON) UnmarshalText(text []byte) error { return v.take(text, "text:") }
func (v textJSON) MarshalJSON() ([]byte, error)     { return v.putJSON() }
func (v *textJSON) UnmarshalJSON(b []byte) error    { return v.takeJSON(b) }

// all is what decimal types are like.
type all struct{ secret }

func (v all) MarshalBinary() ([]byte, error)     { return v.put("binary:") }
func (v *all) UnmarshalBinary(data []byte) error { return v.take(data, "binary:") }
func (v all) MarshalText() ([]byte, error)       { return v.put("text:") }
func (v *all) UnmarshalText(text []byte) error   { return v.take(text, "text:") }
func (v all) MarshalJSON() ([]byte, error)       { return v.putJSON() }
func (v *all) UnmarshalJSON(b []byte) error      { return v.takeJSON(b) }

// viaPointer has all methods on the pointer.
type viaPointer struct{ secret }

func (v *viaPointer) MarshalText() ([]byte, error)    { return v.put("text:") }
func (v *viaPointer) UnmarshalText(text []byte) error { return v.take(text, "text:") }

// viaCBOR has methods for the library itself, and others that must then not be used.
type viaCBOR struct{ secret }

func (v viaCBOR) MarshalCBOR() ([]byte, error) { return cbor.Marshal("cbor:" + v.s) }
func (v *viaCBOR) UnmarshalCBOR(b []byte) error {
	var text string
	if err := cbor.Unmarshal(b, &text); err != nil {
		return err
	}
	return v.take([]byte(text), "cbor:")
}
func (v viaCBOR) MarshalBinary() ([]byte, error) { return nil, errors.New("not to be called") }
func (v *viaCBOR) UnmarshalJSON(b []byte) error  { return errors.New("not to be called") }

// The next ones are plain data with methods for reading only. What is written by kind must be read by kind.

type readsText string

func (v *readsText) UnmarshalText([]byte) error { return errors.New("not to be called") }

type readsBinary []byte

func (v *readsBinary) UnmarshalBinary([]byte) error { return errors.New("not to be called") }

type readsJSON struct{ A int }

func (v *readsJSON) UnmarshalJSON([]byte) error { return errors.New("not to be called") }

// textOneWayJSON can be written as JSON, but only be read as text.
type textOneWayJSON struct{ secret }

func (v textOneWayJSON) MarshalJSON() ([]byte, error)     { return []byte(`"label"`), nil }
func (v textOneWayJSON) MarshalText() ([]byte, error)     { return v.put("text:") }
func (v *textOneWayJSON) UnmarshalText(text []byte) error { return v.take(text, "text:") }

var selfMarshalers = []any{
	binaryOnly{secret{"a"}}, textOnly{secret{"b"}}, jsonOnly{secret{"c"}}, binaryText{secret{"d"}}, binaryJSON{secret{"e"}},
	textJSON{secret{"f"}}, all{secret{"g"}}, viaPointer{secret{"h"}}, viaCBOR{secret{"i"}},
	readsText("j"), readsBinary("k"), readsJSON{7}, textOneWayJSON{secret{"l"}},
	json.RawMessage(`{"m": 1.0}`), *big.NewInt(12), netip.MustParseAddr("10.0.0.1"),
}

func TestDefault_KeepsEachSelfMarshaler(t *testing.T) {
	t.Parallel()
	for _, v := range selfMarshalers {
		combine(t, true, v)
	}
	kept(t, []jsonOnly{{secret{""}}, {secret{"\x00é\""}}})
	kept(t, map[textOnly]jsonOnly{{secret{"k"}}: {secret{"v"}}})
	kept(t, map[textJSON]int{{secret{"k"}}: 1, {secret{"l"}}: 2})
	kept(t, map[jsonOnly]all{{secret{"k"}}: {secret{"v"}}})
	kept(t, (*all)(nil))
	kept(t, &viaPointer{secret{"x"}})
}

// TestDefault_KeepsOrRefusesCombinations puts every one, two, three and four of the types into a struct: either the struct
// comes back the same or it is refused.
func TestDefault_KeepsOrRefusesCombinations(t *testing.T) {
	t.Parallel()
	keptCount, refused := 0, 0
	var choose func(from int, chosen []any)
	choose = func(from int, chosen []any) {
		if len(chosen) > 0 {
			if combine(t, false, chosen...) {
				keptCount++
			} else {
				refused++
			}
		}
		if len(chosen) == 4 {
			return
		}
		for i := from; i < len(selfMarshalers); i++ {
			choose(i+1, append(slices.Clip(chosen), selfMarshalers[i]))
		}
	}
	choose(0, nil)
	t.Logf("%d combinations kept, %d refused", keptCount, refused)
	require.Greater(t, keptCount, refused)
}

// combine makes a struct with a field for each value, behind pointers and in slices too, and has it encoded and decoded.
// It returns false if the codec refuses the type.
func combine(t *testing.T, must bool, values ...any) bool {
	t.Helper()
	var fields []reflect.StructField
	for i, v := range values {
		rt := reflect.TypeOf(v)
		for suffix, ft := range map[string]reflect.Type{"": rt, "P": reflect.PointerTo(rt), "S": reflect.SliceOf(rt)} {
			fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d%s", i, suffix), Type: ft})
		}
	}
	st := reflect.StructOf(fields)
	if err := codec.Check(codec.Default, st); err != nil {
		require.False(t, must, err)
		require.ErrorContains(t, err, "do not go together")
		return false
	}
	in := reflect.New(st)
	for i, v := range values {
		rv := reflect.ValueOf(v)
		in.Elem().FieldByName(fmt.Sprintf("F%d", i)).Set(rv)
		p := reflect.New(rv.Type())
		p.Elem().Set(rv)
		in.Elem().FieldByName(fmt.Sprintf("F%dP", i)).Set(p)
		s := in.Elem().FieldByName(fmt.Sprintf("F%dS", i))
		s.Set(reflect.Append(s, rv, rv))
	}
	b, err := codec.Default.Marshal(in.Interface())
	require.NoError(t, err)
	out := reflect.New(st)
	require.NoError(t, codec.Default.Unmarshal(b, out.Interface()), st)
	require.Equal(t, in.Elem().Interface(), out.Elem().Interface())
	return true
}

// TestDefault_CommonCombinations are those that users have.
func TestDefault_CommonCombinations(t *testing.T) {
	t.Parallel()
	uuid, decimal, enum, nullable, objectID, link := binaryText{}, all{}, textOnly{}, jsonOnly{}, textJSON{}, binaryOnly{}
	for _, values := range [][]any{
		{uuid, decimal, enum, link},
		{uuid, nullable},
		{uuid, enum, link, nullable},
		{uuid, link, objectID},
		{decimal, nullable, objectID},
	} {
		require.True(t, combine(t, true, values...))
	}
	// Not everything is possible.
	type order struct {
		ID    binaryText
		Total all
		Note  jsonOnly
	}
	require.EqualError(t, codec.Check(codec.Default, reflect.TypeFor[order]()),
		"codec cbor-1: codec_test.order: these types marshal themselves in ways that do not go together: "+
			"codec_test.binaryText (Binary or Text), codec_test.all (Binary or Text or JSON), codec_test.jsonOnly (JSON); "+
			"use codec.JSON, or give one of them MarshalCBOR and UnmarshalCBOR")
	require.NoError(t, codec.Check(codec.JSON, reflect.TypeFor[order]()))
}

func TestDefault_PrefersJSONToText(t *testing.T) {
	t.Parallel()
	kept(t, keyed{"id", "content"})
	kept(t, struct {
		K keyed
		J jsonOnly
	}{keyed{"id", "content"}, jsonOnly{secret{"x"}}})
}

// keyed has a text for the keys of maps, and JSON with all that it holds.
type keyed struct{ id, content string }

func (k keyed) MarshalText() ([]byte, error)     { return []byte(k.id), nil }
func (k *keyed) UnmarshalText(text []byte) error { k.id = string(text); return nil }
func (k keyed) MarshalJSON() ([]byte, error)     { return json.Marshal([]string{k.id, k.content}) }
func (k *keyed) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]*string{&k.id, &k.content})
}

func TestDefault_JSONIsKeptToTheByte(t *testing.T) {
	t.Parallel()
	kept(t, verbatim(`{"b":1.10,"a":12345678901234567890,"a":null}`))
}

// verbatim keeps its JSON as it is.
type verbatim string

func (v verbatim) MarshalJSON() ([]byte, error)  { return []byte(v), nil }
func (v *verbatim) UnmarshalJSON(b []byte) error { *v = verbatim(b); return nil }
