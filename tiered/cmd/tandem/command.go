package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is one of tandem's commands.
type command struct {
	name  string
	args  string // what follows the name
	short string
	long  string
	// setup defines the flags, and returns what runs once they are set.
	setup func(*flag.FlagSet) runFunc
}

type runFunc func(ctx context.Context, s streams, args []string) error

func commands() []*command {
	return []*command{demoCommand(), getCommand(), invalidateCommand(), watchCommand()}
}

func find(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (c *command) run(ctx context.Context, s streams, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are returned, and help is ours
	run := c.setup(flags)
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	return run(ctx, s, rest)
}

// parse takes flags also from between and behind the arguments, and nothing after "--" for one.
func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	var literal []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, literal = args[:i], args[i+1:]
	}
	var rest []string
	for {
		if err := flags.Parse(args); err != nil {
			if err == flag.ErrHelp { //nolint:errorlint // Parse returns it as it is
				return nil, err
			}
			return nil, usageError{err}
		}
		if flags.NArg() == 0 {
			return append(rest, literal...), nil
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

func (c *command) help() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "usage: tandem %s %s\n\n%s\n", c.name, c.args, strings.TrimSpace(c.long))
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.setup(flags)
	fmt.Fprint(&b, "\nFlags:\n")
	flags.VisitAll(func(f *flag.Flag) { describe(&b, f) })
	return b.String()
}

// describe writes a flag as one line, where the package flag would take two and show the zero value of every kind.
func describe(b *bytes.Buffer, f *flag.Flag) {
	kind, usage := flag.UnquoteUsage(f)
	if !strings.Contains(usage, "(default") && f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
		usage += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	fmt.Fprintf(b, "  %-24s %s\n", strings.TrimSpace("-"+f.Name+" "+kind), usage)
}

func overview() string {
	var b strings.Builder
	b.WriteString("tandem shows what a tandem cache does, and looks into one that runs.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  tandem %-39s %s\n", c.name+" "+c.args, c.short)
	}
	b.WriteString("\nStart with tandem demo, which needs no Redis. A Redis Cluster is given as any of its nodes.\nMore with tandem help COMMAND.\n")
	return b.String()
}
