package protobuf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fingerprint returns a number for the schema of a message, and whether it may contain itself. The number is the same in
// every process and build, as it depends on what the .proto file says and on nothing else.
func fingerprint(desc protoreflect.MessageDescriptor) (number uint64, recursive bool) {
	d := describer{numbers: map[protoreflect.FullName]int{}, open: map[protoreflect.FullName]bool{}}
	d.message(desc)
	return xxhash.Sum64String(d.text.String()), d.recursive
}

// describer writes down all that an encoding depends on. A message is told from others by its fields, and referred
// to by a number where it occurs again; its name does not count.
type describer struct {
	text      strings.Builder
	numbers   map[protoreflect.FullName]int
	open      map[protoreflect.FullName]bool
	recursive bool
}

func (d *describer) message(m protoreflect.MessageDescriptor) {
	if n, ok := d.numbers[m.FullName()]; ok {
		d.recursive = d.recursive || d.open[m.FullName()]
		fmt.Fprintf(&d.text, "#%d", n)
		return
	}
	d.numbers[m.FullName()] = len(d.numbers)
	d.open[m.FullName()] = true
	defer delete(d.open, m.FullName())

	var fields []protoreflect.FieldDescriptor
	for i := range m.Fields().Len() {
		fields = append(fields, m.Fields().Get(i))
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	d.text.WriteString("{")
	for _, f := range fields {
		d.field(f)
	}
	d.text.WriteString("}")
}

func (d *describer) field(f protoreflect.FieldDescriptor) {
	fmt.Fprintf(&d.text, "%d %s %s %s presence=%t ", f.Number(), f.Name(), f.Cardinality(), f.Kind(), f.HasPresence())
	if f.IsMap() {
		d.text.WriteString("map ")
	}
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		fmt.Fprintf(&d.text, "oneof %s ", o.Name())
	}
	if f.HasDefault() {
		fmt.Fprintf(&d.text, "default %q ", f.Default().String()) // what an absent field means
	}
	if m := f.Message(); m != nil {
		d.message(m)
	}
	if e := f.Enum(); e != nil {
		d.enum(e)
	}
	d.text.WriteString(";")
}

func (d *describer) enum(e protoreflect.EnumDescriptor) {
	var values []string
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		values = append(values, fmt.Sprintf("%d=%s", v.Number(), v.Name()))
	}
	slices.Sort(values) // in any order
	fmt.Fprintf(&d.text, "enum closed=%t [%s]", e.IsClosed(), strings.Join(values, " "))
}
