package protobuf

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// schema returns the fingerprint of the first message of a file, which is given as protoc describes it.
func schema(t *testing.T, text string) (uint64, bool) {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	require.NoError(t, prototext.Unmarshal([]byte(`name: "f.proto" package: "p" `+text), file), text)
	desc, err := protodesc.NewFile(file, new(protoregistry.Files))
	require.NoError(t, err, text)
	return fingerprint(desc.Messages().Get(0))
}

func field(number int, name, kind string) string {
	return fmt.Sprintf(`field { number: %d name: %q type: TYPE_%s label: LABEL_OPTIONAL } `, number, name, kind)
}

const (
	proto3   = `syntax: "proto3" `
	enumPart = `enum_type { name: "E" value { name: "A" number: 0 } value { name: "B" number: 1 } }`
	enumUse  = `message_type { name: "M" field { number: 1 name: "e" type: TYPE_ENUM type_name: ".p.E" label: LABEL_OPTIONAL } } `
)

func TestFingerprint_TellsSchemasApart(t *testing.T) {
	t.Parallel()
	message := func(fields string) string { return `message_type { name: "M" ` + fields + `} ` }
	inner := func(fields string) string {
		return message(`field { number: 1 name: "n" type: TYPE_MESSAGE type_name: ".p.N" label: LABEL_OPTIONAL } `) +
			`message_type { name: "N" ` + fields + `} `
	}
	seen := map[uint64]string{}
	for _, text := range []string{
		message(""),
		message(field(1, "a", "INT64")),
		message(field(2, "a", "INT64")),
		message(field(1, "b", "INT64")),
		message(field(1, "a", "SINT64")),
		message(field(1, "a", "STRING")),
		message(field(1, "a", "INT64") + field(2, "b", "INT64")),
		message(`field { number: 1 name: "a" type: TYPE_INT64 label: LABEL_REPEATED } `),
		message(`field { number: 1 name: "a" type: TYPE_INT64 label: LABEL_REQUIRED } `),
		message(`field { number: 1 name: "a" type: TYPE_INT64 label: LABEL_OPTIONAL default_value: "1" } `),
		message(`field { number: 1 name: "a" type: TYPE_INT64 label: LABEL_OPTIONAL oneof_index: 0 } oneof_decl { name: "o" } `),
		message(`field { number: 1 name: "a" type: TYPE_INT64 label: LABEL_OPTIONAL oneof_index: 0 } oneof_decl { name: "q" } `),
		proto3 + message(field(1, "a", "INT64")),
		inner(field(1, "a", "INT64")),
		inner(field(1, "a", "INT32")),
		inner(`field { number: 1 name: "m" type: TYPE_MESSAGE type_name: ".p.M" label: LABEL_OPTIONAL } `),
		inner(`field { number: 1 name: "m" type: TYPE_MESSAGE type_name: ".p.N" label: LABEL_OPTIONAL } `),
		enumUse + enumPart,
		proto3 + enumUse + enumPart,
		enumUse + `enum_type { name: "E" value { name: "A" number: 0 } value { name: "C" number: 1 } }`,
		enumUse + `enum_type { name: "E" value { name: "A" number: 0 } value { name: "B" number: 2 } }`,
		enumUse + `enum_type { name: "E" value { name: "A" number: 0 } value { name: "B" number: 1 } value { name: "C" number: 2 } }`,
	} {
		fp, _ := schema(t, text)
		require.NotContains(t, seen, fp, "%s and %s", text, seen[fp])
		seen[fp] = text
	}
}

func TestFingerprint_ForgetsWhatDoesNotCount(t *testing.T) {
	t.Parallel()
	a, _ := schema(t, `message_type { name: "M" `+field(1, "a", "INT64")+field(2, "b", "STRING")+`} `)
	b, _ := schema(t, `message_type { name: "Other" options { deprecated: true } `+field(2, "b", "STRING")+field(1, "a", "INT64")+`} message_type { name: "More" }`)
	require.Equal(t, a, b)
	a, _ = schema(t, enumUse+enumPart)
	b, _ = schema(t, enumUse+`enum_type { name: "E" value { name: "B" number: 1 } value { name: "A" number: 0 } }`)
	require.Equal(t, a, b)
}

func TestFingerprint_KnowsRecursion(t *testing.T) {
	t.Parallel()
	use := func(number int, name, of string) string {
		return fmt.Sprintf(`field { number: %d name: %q type: TYPE_MESSAGE type_name: ".p.%s" label: LABEL_OPTIONAL } `, number, name, of)
	}
	for text, want := range map[string]bool{
		`message_type { name: "M" ` + use(1, "m", "M") + `}`:                                                                        true,
		`message_type { name: "M" ` + use(1, "n", "N") + `} message_type { name: "N" ` + use(1, "m", "M") + `}`:                     true,
		`message_type { name: "M" ` + use(1, "n", "N") + use(2, "o", "N") + `} message_type { name: "N" }`:                          false,
		`message_type { name: "M" ` + use(1, "n", "N") + use(2, "o", "N") + `} message_type { name: "N" ` + use(1, "n", "N") + ` }`: true,
	} {
		_, recursive := schema(t, text)
		require.Equal(t, want, recursive, text)
	}
}
