package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver, in pure Go

	"github.com/tandemcache/tandem/tiered"
)

const schema = `
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS permissions (user TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (user, name));`

// User is a profile. The cache shares it among requests: nobody changes one.
type User struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
}

// store is the database that the processes share.
type store struct {
	db    *sql.DB
	reads atomic.Int64 // profiles that were read
}

func openStore(ctx context.Context, file string) (*store, error) {
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)"}}
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

// user reads a profile in one statement, so that name and permissions belong together. It is the cache's loader.
func (s *store) user(ctx context.Context, id string) (User, error) {
	s.reads.Add(1)
	rows, err := s.db.QueryContext(ctx, `
		SELECT users.name, permissions.name FROM users LEFT JOIN permissions ON user = id
		WHERE id = ? ORDER BY permissions.name`, id)
	if err != nil {
		return User{}, err
	}
	defer rows.Close()
	u := User{ID: id, Permissions: []string{}}
	found := false
	for rows.Next() {
		var permission sql.NullString
		if err := rows.Scan(&u.Name, &permission); err != nil {
			return User{}, err
		}
		if found = true; permission.Valid {
			u.Permissions = append(u.Permissions, permission.String)
		}
	}
	if err := rows.Err(); err != nil {
		return User{}, err
	}
	if !found {
		return User{}, tiered.ErrNotFound
	}
	return u, nil
}

// The three changes have committed when they return nil.

func (s *store) rename(ctx context.Context, id, name string) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO users VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name`, id, name)
	return err
}

func (s *store) grant(ctx context.Context, id, permission string) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO permissions VALUES (?, ?) ON CONFLICT DO NOTHING`, id, permission)
	return err
}

func (s *store) revoke(ctx context.Context, id, permission string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM permissions WHERE user = ? AND name = ?`, id, permission)
	return err
}
