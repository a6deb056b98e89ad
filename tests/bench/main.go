// Command bench compares tandem with its parts and its peers on a real redis-server, which it starts, and prints tables in
// Markdown. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/tandemcache/tandem/tests/bench/internal/report"
	"github.com/tandemcache/tandem/tests/bench/internal/section"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	section.Config

	sections []section.Section
	svg      string
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var only string
	var names []string
	for _, one := range section.All() {
		names = append(names, one.Name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&s.Rounds, "rounds", 6, "how often each competitor has its turn")
	flags.DurationVar(&s.Time, "time", 500*time.Millisecond, "how long one turn takes")
	flags.StringVar(&only, "only", "", "sections to run, separated by commas, of "+strings.Join(names, ", ")+" (default all)")
	flags.StringVar(&s.Traces, "traces", "", "directory of *.txt.gz with one id a line, for the hit ratios (default a synthetic trace)")
	flags.StringVar(&s.svg, "svg", "", "file for a picture of the ratios of L1 and L2 hits")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.Rounds < 1 || s.Time <= 0 {
		return s, errors.New("-rounds and -time must be positive")
	}
	s.sections = section.All()
	if only == "" {
		return s, nil
	}
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return s, fmt.Errorf("-only: there is no section %q, but %s", name, strings.Join(names, ", "))
		}
	}
	s.sections = slices.DeleteFunc(s.sections, func(one section.Section) bool { return !slices.Contains(wanted, one.Name) })
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	server, err := redisserver.Start(redisserver.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	s.Addr = server.Addr()
	began := time.Now()
	s.Log = func(format string, args ...any) {
		_, _ = fmt.Fprintf(stderr, "%4.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}

	if _, err := fmt.Fprint(stdout, header(args, s, server.Version())); err != nil {
		return err
	}
	var panels []report.Panel
	for _, one := range s.sections {
		result, err := one.Run(ctx, s.Config)
		if err != nil {
			return fmt.Errorf("section %s: %w", one.Name, err)
		}
		for _, table := range result.Tables {
			if _, err := fmt.Fprintf(stdout, "\n%s", table.Markdown()); err != nil {
				return err
			}
		}
		panels = append(panels, result.Panels...)
	}
	if s.svg != "" {
		return report.WriteSVG(s.svg, panels)
	}
	return nil
}
