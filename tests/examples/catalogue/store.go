package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver, in pure Go
)

const schema = `
CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL, category TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reviews (product INTEGER NOT NULL, stars INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS products_by_category ON products (category, cents);
CREATE INDEX IF NOT EXISTS reviews_by_product ON reviews (product, stars);`

// Product is what the shop's page about it shows.
type Product struct {
	ID       int64   `json:"id"`
	Name     string  `json:"name"`
	Cents    int64   `json:"cents"`
	Category string  `json:"category"`
	Reviews  int     `json:"reviews"`
	Stars    float64 `json:"stars"` // their mean
}

// Item is a product in a list.
type Item struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Cents int64  `json:"cents"`
}

// store is the database: it knows nothing of caches.
type store struct {
	db    *sql.DB
	reads atomic.Int64 // queries that readers caused
}

func openStore(ctx context.Context, file string) (*store, error) {
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+file+"?"+pragmas.Encode())
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("create tables in %s: %w", file, err), db.Close())
	}
	return &store{db: db}, nil
}

func (s *store) Close() error { return s.db.Close() }

// product returns sql.ErrNoRows if there is none.
func (s *store) product(ctx context.Context, id int64) (Product, error) {
	s.reads.Add(1)
	p := Product{ID: id}
	err := s.db.QueryRowContext(ctx, `
		SELECT name, cents, category, (SELECT count(*) FROM reviews WHERE product = id),
			(SELECT coalesce(avg(stars), 0) FROM reviews WHERE product = id)
		FROM products WHERE id = ?`, id).Scan(&p.Name, &p.Cents, &p.Category, &p.Reviews, &p.Stars)
	return p, err
}

// category returns the products of a category, the cheapest first; none is not an error.
func (s *store) category(ctx context.Context, name string) ([]Item, error) {
	s.reads.Add(1)
	rows, err := s.db.QueryContext(ctx, `SELECT id, name, cents FROM products WHERE category = ? ORDER BY cents, id`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	items := []Item{}
	for rows.Next() {
		var i Item
		if err := rows.Scan(&i.ID, &i.Name, &i.Cents); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, rows.Err()
}

// put creates or changes a product. It returns the category that the product was in, "" if it is new.
func (s *store) put(ctx context.Context, p Product) (was string, err error) {
	return s.change(ctx, p.ID, `INSERT INTO products (id, name, cents, category) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, cents = excluded.cents, category = excluded.category`,
		p.ID, p.Name, p.Cents, p.Category)
}

// remove deletes a product, if there is one. It returns the category that it was in.
func (s *store) remove(ctx context.Context, id int64) (was string, err error) {
	return s.change(ctx, id, `DELETE FROM products WHERE id = ?`, id)
}

// change runs one statement, and has committed it when it returns nil.
func (s *store) change(ctx context.Context, id int64, statement string, args ...any) (was string, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback() //nolint:errcheck // it does nothing after a commit
	err = tx.QueryRowContext(ctx, `SELECT category FROM products WHERE id = ?`, id).Scan(&was)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
		return "", err
	}
	return was, tx.Commit()
}
