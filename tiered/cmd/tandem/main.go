package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	redis.SetLogger(silent{}) // go-redis would write to stderr what the commands report themselves
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// What the first signal asks to end may take its time, or wait for what never comes: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is an error of whoever typed the command.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// printf drops the writer's error: there is nobody left to tell.
func printf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// run is main without the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := streams{stdin, stdout, stderr}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		return help(s, args)
	}
	c := find(args[0])
	if c == nil {
		printf(stderr, "tandem: there is no command %q\n\n%s", args[0], overview())
		return exitUsage
	}
	err := c.run(ctx, s, args[1:])
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		printf(stdout, "%s", c.help())
		return exitOK
	}
	printf(stderr, "tandem %s: %v\n", c.name, err)
	if errors.As(err, new(usageError)) {
		printf(stderr, "usage: tandem %s %s; more with tandem help %s\n", c.name, c.args, c.name)
		return exitUsage
	}
	return exitFailure
}

func help(s streams, args []string) int {
	if len(args) < 2 {
		printf(s.out, "%s", overview())
		return exitOK
	}
	c := find(args[1])
	if c == nil {
		printf(s.err, "tandem: there is no command %q\n\n%s", args[1], overview())
		return exitUsage
	}
	printf(s.out, "%s", c.help())
	return exitOK
}

// silent is a logger for go-redis.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
