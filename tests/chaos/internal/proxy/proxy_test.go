package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 20 * time.Second
	silence  = 100 * time.Millisecond // for what must not come: on a slow machine a test may miss it, never see it wrongly
)

// echo is a server that sends back what it is sent.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); done.Wait() })
	return l.Addr().String()
}

func start(t *testing.T) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(echo(t))
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, p *proxy.Proxy) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

func (c *client) send(line string) {
	c.t.Helper()
	_, err := io.WriteString(c, line+"\r\n")
	require.NoError(c.t, err)
}

func (c *client) line(within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	return c.r.ReadString('\n')
}

func (c *client) gets(line string) {
	c.t.Helper()
	got, err := c.line(patience)
	require.NoError(c.t, err)
	require.Equal(c.t, line+"\r\n", got)
}

func (c *client) getsNothing() {
	c.t.Helper()
	got, err := c.line(silence)
	require.ErrorIs(c.t, err, os.ErrDeadlineExceeded, "got %q", got)
}

func (c *client) isReset() {
	c.t.Helper()
	_, err := c.line(patience)
	require.ErrorIs(c.t, err, syscall.ECONNRESET)
}

func subscriber(t *testing.T, p *proxy.Proxy) *client {
	t.Helper()
	c := dial(t, p)
	c.send("SUBSCRIBE")
	c.gets("SUBSCRIBE")
	require.Equal(t, 1, p.Conns(proxy.Bus))
	return c
}

func TestEveryByteArrivesOnceAndInOrder(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	sent := make([]byte, 4<<20)
	_, _ = rand.Read(sent)
	stop := make(chan struct{})
	var flicker sync.WaitGroup
	flicker.Go(func() { // held, delayed and let go all the while
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				p.Set(proxy.AnyKind, proxy.Direction(1+i%3), proxy.Rule{Hold: i%2 == 0, Delay: time.Millisecond})
				p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{})
			}
		}
	})
	flicker.Go(func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 9973)
			if _, err := c.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	})
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c.r)
	close(stop)
	flicker.Wait()
	require.NoError(t, err)
	require.Len(t, got, len(sent))
	require.True(t, bytes.Equal(sent, got)) // without printing them
}

func TestHoldKeepsOldAndNewConnections(t *testing.T) {
	t.Parallel()
	p := start(t)
	old := dial(t, p)
	old.send("a")
	old.gets("a")
	p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{Hold: true})
	old.send("b")
	old.getsNothing()
	fresh := dial(t, p)
	fresh.send("c")
	fresh.getsNothing()
	require.NoError(t, p.Pass())
	old.gets("b")
	fresh.gets("c")
}

func TestOneDirectionCanBeDead(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Up, proxy.Down} {
		p := start(t)
		c := dial(t, p)
		p.Set(proxy.AnyKind, d, proxy.Rule{Hold: true})
		c.send("a")
		c.getsNothing()
		p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{})
		c.gets("a")
	}
}

func TestTheBusIsToldFromTheRest(t *testing.T) {
	t.Parallel()
	p := start(t)
	sub := subscriber(t, p)
	data := dial(t, p)
	p.Set(proxy.Bus, proxy.Both, proxy.Rule{Hold: true})
	sub.send("a")
	data.send("b")
	data.gets("b")
	sub.getsNothing()

	// A connection becomes a bus with the command itself, which is then held already.
	late := dial(t, p)
	late.send("hello")
	late.gets("hello")
	_, err := io.WriteString(late, "sub")
	require.NoError(t, err)
	late.send("scribe")
	late.getsNothing()

	p.Set(proxy.Bus, proxy.Both, proxy.Rule{})
	p.Set(proxy.Data, proxy.Both, proxy.Rule{Hold: true})
	sub.gets("a")
	data.send("c")
	data.getsNothing()
}

func TestDelay(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	p.Set(proxy.AnyKind, proxy.Up, proxy.Rule{Delay: 50 * time.Millisecond})
	began := time.Now()
	c.send("a")
	c.gets("a")
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
}

func TestResetOfOneKind(t *testing.T) {
	t.Parallel()
	p := start(t)
	sub, data := subscriber(t, p), dial(t, p)
	data.send("a")
	data.gets("a")
	p.Reset(proxy.Bus)
	sub.isReset()
	data.send("b")
	data.gets("b")
	p.Reset(proxy.Data)
	data.isReset()
	dial(t, p) // is accepted
}

func TestResetEndsWhatIsHeld(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.send("a")
	c.gets("a")
	p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{Hold: true})
	c.send("b")
	p.Reset(proxy.AnyKind)
	c.isReset()
	require.Eventually(t, func() bool { return p.Conns(proxy.AnyKind) == 0 }, patience, time.Millisecond)
}

func TestRefuseAndListenAgain(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.send("a")
	c.gets("a")
	p.Refuse()
	c.isReset()
	_, err := net.DialTimeout("tcp", p.Addr(), patience)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, p.Pass())
	again := dial(t, p)
	again.send("b")
	again.gets("b")
}

func TestThePortOfOneThatRefusesIsNoOthers(t *testing.T) {
	p := start(t)
	number := int(netip.MustParseAddrPort(p.Addr()).Port())
	p.Refuse()

	_, err := port.Take(number)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, p.Pass())
	p.Close()
	other, err := port.Take(number)
	require.NoError(t, err)
	require.NoError(t, other.Release())
}

func TestAServerThatIsDownEndsTheConnection(t *testing.T) {
	t.Parallel()
	nobody, err := port.Reserve()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, nobody.Release()) })
	p, err := proxy.New(nobody.Addr())
	require.NoError(t, err)
	t.Cleanup(p.Close)
	conn, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET) // the end came before Dial had looked
		return
	}
	c := &client{Conn: conn, t: t, r: bufio.NewReader(conn)}
	defer c.Close()
	_, err = c.line(patience)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestAnEndIsPassedOn(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.send("a")
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	c.gets("a")
	_, err := c.line(patience)
	require.ErrorIs(t, err, io.EOF)
	require.Eventually(t, func() bool { return p.Conns(proxy.AnyKind) == 0 }, patience, time.Millisecond)
}
