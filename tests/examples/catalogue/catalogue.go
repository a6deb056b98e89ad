package main

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

// catalogue reads the store through two caches, or, if they are nil, without.
type catalogue struct {
	store      *store
	bus        *tiered.Bus
	products   *tiered.Cache[Product]
	categories *tiered.Cache[[]Item]
}

// useCache puts the caches before the store. They share a connection to Redis, which need not be there.
func (c *catalogue) useCache(rdb redis.UniversalClient) (err error) {
	if c.bus, err = tiered.NewBus(rdb, nil); err != nil {
		return err
	}
	c.products, err = tiered.New(rdb, "products", tiered.Options[Product]{
		Bus:        c.bus,
		TTL:        time.Hour, // updates invalidate: the TTL only bounds what a forgotten one costs
		IsNotFound: noRows,    // "there is none" is cached too, until a PUT creates it
		Load: func(ctx context.Context, key string) (Product, error) {
			id, err := strconv.ParseInt(key, 10, 64)
			if err != nil {
				return Product{}, err
			}
			return c.store.product(ctx, id)
		},
	})
	if err != nil {
		return err
	}
	c.categories, err = tiered.New(rdb, "categories", tiered.Options[[]Item]{Bus: c.bus, TTL: time.Hour, Load: c.store.category})
	return err
}

// Close closes the caches, then what they share.
func (c *catalogue) Close() error {
	return errors.Join(c.products.Close(), c.categories.Close(), c.bus.Close())
}

func (c *catalogue) product(ctx context.Context, id int64) (Product, error) {
	if c.products == nil {
		return c.store.product(ctx, id)
	}
	return c.products.Get(ctx, strconv.FormatInt(id, 10))
}

func (c *catalogue) category(ctx context.Context, name string) ([]Item, error) {
	if c.categories == nil {
		return c.store.category(ctx, name)
	}
	return c.categories.Get(ctx, name)
}

func (c *catalogue) put(ctx context.Context, p Product) error {
	was, err := c.store.put(ctx, p)
	c.changed(ctx, p.ID, was, p.Category)
	return err
}

func (c *catalogue) remove(ctx context.Context, id int64) error {
	was, err := c.store.remove(ctx, id)
	c.changed(ctx, id, was)
	return err
}

// changed drops what a change has made old: the product, and the lists that it was in and is in. It comes after the commit,
// and also after an error: the database may have committed, and not have been able to say so.
//
// The change stands, so an error here is not one of the request: this instance has dropped its copies, and repeats until
// Redis knows. It also does so if ctx has ended because the client has gone.
func (c *catalogue) changed(ctx context.Context, id int64, categories ...string) {
	if c.products == nil {
		return
	}
	lists := make([]string, 0, len(categories))
	for _, name := range categories {
		if name != "" { // new, or deleted before
			lists = append(lists, name)
		}
	}
	err := errors.Join(c.products.Invalidate(ctx, strconv.FormatInt(id, 10)), c.categories.Invalidate(ctx, lists...))
	if err != nil {
		log.Printf("product %d: %v", id, err)
	}
}

func notFound(err error) bool { return errors.Is(err, tiered.ErrNotFound) || noRows(err) }

func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
