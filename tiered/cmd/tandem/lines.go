package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// dropLines drops the keys on standard input, a batch at a time.
func (inv *invalidation) dropLines(ctx context.Context, stdin io.Reader) error {
	lines, stop := readLines(ctx, stdin)
	defer stop()
	batch := make([]string, 0, pubsub.MaxKeys)
	dropped, last := 0, 0 // lines: the one up to which keys were dropped, and the last that was read
	for {
		l, err := lines.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return inv.dropKeys(ctx, batch)
		case err != nil && ctx.Err() != nil:
			inv.failed = append(inv.failed, batch...)
			return fmt.Errorf("interrupted: %w; %s", ctx.Err(), untriedAfter(dropped))
		case err != nil:
			err = fmt.Errorf("reading standard input: %w; %s", err, untriedAfter(last))
			return errors.Join(inv.dropKeys(ctx, batch), err)
		}
		last = l.number
		if l.err != nil {
			// The others are dropped all the same: a key too few is worse than one too many.
			inv.refused = append(inv.refused, fmt.Errorf("line %d: %w", l.number, l.err))
			continue
		}
		if l.key != "" {
			batch = append(batch, l.key)
		}
		if len(batch) < cap(batch) {
			continue
		}
		if err := inv.dropKeys(ctx, batch); err != nil {
			return fmt.Errorf("%w; %s", err, untriedAfter(last))
		}
		batch, dropped = batch[:0], last
	}
}

func untriedAfter(line int) string {
	if line == 0 {
		return "nothing of standard input was tried"
	}
	return fmt.Sprintf("what comes after line %d was not tried", line)
}

// line is one line of a list of keys.
type line struct {
	number int
	key    string // empty, as the line is
	err    error  // instead of a key: why it is none
}

// lines are those that a goroutine reads: a Read does not end with a context.
type lines chan lineOrEnd

type lineOrEnd struct {
	line

	end error // why there is no line any more
}

// readLines begins to read. After stop, or the end of ctx, the goroutine waits for nobody, and ends when its Read returns: at a
// terminal perhaps with the process.
func readLines(ctx context.Context, r io.Reader) (found lines, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	found = make(lines)
	go func() {
		from := lineReader{r: bufio.NewReader(r)}
		for {
			l, err := from.next()
			select {
			case found <- lineOrEnd{l, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return found, stop
}

// next returns the next line, or an error where there is none: io.EOF, the reader's, or that of ctx. It must not be called again
// after one.
func (l lines) next(ctx context.Context) (line, error) {
	select {
	case got := <-l:
		return got.line, got.end
	case <-ctx.Done():
		return line{}, ctx.Err()
	}
}

// lineReader reads lines that end with \n or \r\n, the last one perhaps with neither, and keeps no more of a line than a key has.
type lineReader struct {
	r      *bufio.Reader
	number int    // of the last line
	text   []byte // its beginning
	end    error  // after it
}

// next returns the next line, or the error after the last one. What a failure of the reader cuts off is no line.
func (l *lineReader) next() (line, error) {
	if l.end != nil {
		return line{}, l.end // a terminal would be asked once more
	}
	length, err := l.read()
	l.end = err
	if err != nil && (length == 0 || !errors.Is(err, io.EOF)) {
		return line{}, err
	}
	l.number++
	got := line{number: l.number}
	switch {
	case length > remote.MaxKeyBytes:
		got.err = fmt.Errorf("%w: it has %d bytes, at most %d are allowed", remote.ErrKey, length, remote.MaxKeyBytes)
	case length > 0:
		got.key = string(l.text[:length])
		got.err = remote.CheckKey(got.key)
	}
	return got, nil
}

// read reads up to the end of a line and returns its length without that.
func (l *lineReader) read() (length int, err error) {
	l.text = l.text[:0]
	var last byte
	for {
		b, err := l.r.ReadByte()
		if err != nil || b == '\n' {
			if last == '\r' {
				length--
			}
			return length, err
		}
		if length < remote.MaxKeyBytes {
			l.text = append(l.text, b)
		}
		length++
		last = b
	}
}
