package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/tandemcache/tandem/tiered"
)

// Rate is what the API says of a currency.
type Rate struct {
	Currency string  `json:"currency"`
	Rate     float64 `json:"rate"`
}

// client calls the API within its budget.
type client struct {
	url    string
	http   *http.Client
	budget *budget
	calls  atomic.Int64
}

// rate asks the API. It is the cache's loader.
func (c *client) rate(ctx context.Context, currency string) (r Rate, err error) {
	err = c.budget.do(ctx, func() error {
		c.calls.Add(1)
		return c.get(ctx, "/rates/"+url.PathEscape(currency), &r)
	})
	return r, err
}

func (c *client) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(into)
	case http.StatusNotFound:
		return tiered.ErrNotFound
	default:
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
}
