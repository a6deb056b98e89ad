// Package target turns what the command line says about a Redis into a client's options.
package target

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultAddr is where Redis listens unless told otherwise.
const DefaultAddr = "127.0.0.1:6379"

// dialTimeout is short because somebody sits in front of it.
const dialTimeout = 3 * time.Second

// Parse reads an address, host:port or a redis:// or rediss:// URL, and the number of a logical database; a negative one
// means that of the URL, or 0. The password is that of the URL, or REDISCLI_AUTH from the environment, as for redis-cli.
func Parse(addr string, db int) (*redis.Options, error) {
	opt, err := parse(addr)
	if err != nil {
		return nil, err
	}
	if db >= 0 {
		opt.DB = db
	}
	if opt.Password == "" {
		opt.Password = os.Getenv("REDISCLI_AUTH")
	}
	opt.DialTimeout = dialTimeout
	// An answer late or never should be seen as it is, and not be waited for several times over.
	opt.DialerRetries = 1
	opt.MaxRetries = -1
	opt.ContextTimeoutEnabled = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return opt, nil
}

func parse(addr string) (*redis.Options, error) {
	if addr == "" {
		return nil, errors.New("the address of Redis is empty")
	}
	if strings.Contains(addr, "://") {
		opt, err := parseURL(addr)
		if err != nil {
			return nil, fmt.Errorf("the URL of Redis: %w", err)
		}
		return opt, nil
	}
	if strings.Contains(addr, "@") { // what stands before it may be a password, and is not quoted
		return nil, errors.New("the address of Redis: a name or password may stand in a redis:// URL alone")
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("the address of Redis, %q: it must be host:port or a redis:// URL", addr)
	}
	return &redis.Options{Addr: addr}, nil
}

// errEncoding quotes nothing.
var errEncoding = errors.New("what stands before its last @ cannot be read: in a name or password, / ? # % and the like have to be percent-encoded")

// parseURL is redis.ParseURL whose error has nothing of a password.
func parseURL(addr string) (*redis.Options, error) {
	opt, err := redis.ParseURL(addr)
	if _, fragment, _ := strings.Cut(addr, "#"); err == nil && strings.Contains(fragment, "@") {
		return nil, errEncoding // the host would be what stands before the #
	}
	scheme, rest, _ := strings.Cut(addr, "://")
	if at := strings.LastIndex(rest, "@"); err != nil && at >= 0 {
		// A password that is not encoded is taken for parts of the URL, which errors quote.
		if _, err = redis.ParseURL(scheme + "://" + rest[at+1:]); err == nil {
			return nil, errEncoding
		}
	}
	if quoting, ok := errors.AsType[*url.Error](err); ok {
		err = quoting.Err // without the URL
	}
	return opt, err
}
